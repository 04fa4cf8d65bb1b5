"""What serves: `[[models]]`, their replicas, and `[routing]`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from engine.protocols.registry import PROTOCOLS
from proxy.settings.sections.base import Section
from proxy.settings.values import BaseUrl, Domain, Group, HeaderName, Location, Name, Tokens

GATEWAYS_OWN_FIELDS = frozenset(
    "cache_salt priority request_id session_id kv_transfer_params ec_transfer_params "
    "max_tokens max_completion_tokens best_of use_beam_search".split()
)
"""With one of these a tenant could pass its quota, its lane or its cache."""


if TYPE_CHECKING:
    EndpointName = str
else:
    # Known where the config is read, and not to a type checker: what is spoken stands in one place.
    EndpointName = Literal[tuple(PROTOCOLS)]


class Launch(Section):
    """How the gateway starts a model's replicas itself; without this table they run elsewhere and need a `url`."""

    engine: Literal["sim", "vllm"]
    """`sim` for the built-in simulated engine, `vllm` for the real one."""
    weights: str = ""
    """What `vllm` loads: a folder or a Hugging Face name. Empty: the tiny model of `deploy/vllm/install.sh`."""
    args: tuple[str, ...] = ()
    """Further arguments for the engine's command line."""


class Media(Section):
    """Pictures, sounds and films that the model takes in messages; without this table it takes text only."""

    tokens_max: Annotated[int, Field(ge=1, lt=2**31)]
    """Tokens that one item becomes at most: what is reserved for it until the engine has counted."""
    items_max: Annotated[int, Field(ge=1, le=1024)] = 8
    """Items in one request. vLLM's `--limit-mm-per-prompt` has a bound of its own for each kind."""
    domains: tuple[Domain, ...] = ()
    """Hosts that the engine may fetch items from, exactly as listed; without any, items come inline as `data:` URLs.
    The engine follows redirects: list the same hosts in vLLM's own `--allowed-media-domains`."""


class ReplicaSection(Section):
    """One engine that serves the model."""

    name: HeaderName
    """Unique over all models: metrics, the ledger and `x-tollway-replica` use it. Letters, digits, `.`, `_` and `-`."""
    url: BaseUrl | None = None
    """`http://host:port` or `https://host:port`. A launched replica without one gets a free port on the loopback."""
    upstream_model: Name | None = None
    """Name by which it serves the model, one of vLLM's `--served-model-name`; it is asked by that, and clients read the
    model's own. Left out: the model's `upstream_model`. It must be in the engine's `/v1/models`."""
    api_key_file: Location | None = None
    """File that holds the key which the engine wants, vLLM's `--api-key`. Left out: the model's."""
    ca_file: Location | None = None
    """PEM certificates of whoever vouches for it, with `https`. Left out: the model's. Its certificate must hold for
    the host in `url`."""
    cert_file: Location | None = None
    """PEM certificate (and what leads from it to its authority) that it is shown, where it wants one. Left out: the
    model's."""
    key_file: Location | None = None
    """PEM key of `cert_file`, without a passphrase."""
    sequences: Annotated[int, Field(ge=1, le=65_536)] = 64
    """How many choices it runs at a time, vLLM's `--max-num-seqs`."""
    group: Group = ""
    """Label for canaries; empty for none."""
    abort_path: Literal["", "/abort_requests", "/inference/v1/abort_requests"] = ""
    """Where it aborts requests by their ids, so that a client that hangs up before anything is known pays what it used:
    `/inference/v1/abort_requests` with vLLM's `--enable-scale-out`, `/abort_requests` in its dev mode. Empty: nowhere;
    a launched replica has `/abort_requests` by itself."""

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _is_for_tls(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and not str(info.data.get("url", "https:")).startswith("https:"):
            raise ValueError("is of no use without a url that begins with https")
        return path

    @field_validator("key_file")
    @classmethod
    def _is_of_a_certificate(cls, key_file: Path | None, info: ValidationInfo) -> Path | None:
        return _beside_its_certificate(key_file, info)


class ModelSection(Section):
    """One model as clients name it, and the replicas that serve it."""

    name: Name
    """What clients and reports call it."""
    aliases: tuple[Name, ...] = ()
    """Other names that clients may use for it."""
    context_tokens: Annotated[int, Field(ge=1, lt=2**31)]
    """Prompt and completion together at most, vLLM's `--max-model-len`."""
    default_completion: Annotated[int, Field(ge=1, lt=2**31)] = 4096
    """Tokens reserved and asked for a choice of a chat that names no maximum, or what the context holds; in completions
    it is 16, as of vLLM."""
    min_completion: Annotated[int, Field(ge=1, lt=2**31)] = 256
    """A request is never clamped below this (or below what it asked, if less): it is refused instead."""
    tokens_per_s_max: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Tokens a second that it generates at most for one choice: what the quota keeps when a client hangs up before
    anything was counted."""
    template_tokens: Tokens = 64
    """Tokens that the chat template adds at most, beyond the bytes of the messages as JSON; 0 for none."""
    endpoints: Annotated[tuple[EndpointName, ...], Field(min_length=1)] = ("chat", "completions")
    """What the model may be asked."""
    cache_scope: Name = "tenant"
    """Who may share a cached prefix: `user`, `tenant`, or the name of a group of your own. Every model and tenant under
    the same group's name shares."""
    extra_fields: tuple[Name, ...] = ()
    """Request fields to forward beyond the endpoint's own list; none that the gateway must decide itself."""
    unknown_fields: Literal["ignore", "refuse"] = "ignore"
    """What becomes of request fields that are not forwarded: `ignore` leaves them out and names them in
    `x-tollway-ignored`, `refuse` answers 400."""
    media: Media | None = None
    """Left out: text only."""
    launch: Launch | None = None
    """Left out: the replicas run elsewhere."""
    upstream_model: Name | None = None
    """Name by which its engines serve it, where they name no other themselves. Left out: `name`."""
    api_key_file: Location | None = None
    """File that holds the key which its engines want, where they name no other. Left out: they want none."""
    ca_file: Location | None = None
    """PEM certificates of whoever vouches for those of its engines that are at `https`. Left out: whom the system
    trusts."""
    cert_file: Location | None = None
    """PEM certificate that they are shown, where they want one. Left out: none."""
    key_file: Location | None = None
    """PEM key of `cert_file`, without a passphrase."""
    replicas: Annotated[tuple[ReplicaSection, ...], Field(min_length=1)]
    """At least one."""

    @field_validator("extra_fields")
    @classmethod
    def _not_ours(cls, extra_fields: tuple[str, ...]) -> tuple[str, ...]:
        if taken := sorted(GATEWAYS_OWN_FIELDS.intersection(extra_fields)):
            raise ValueError(
                f"must not hold {', '.join(taken)}: quota and isolation between tenants rest on the gateway's"
            )
        return extra_fields

    @field_validator("key_file")
    @classmethod
    def _is_of_a_certificate(cls, key_file: Path | None, info: ValidationInfo) -> Path | None:
        return _beside_its_certificate(key_file, info)


def _beside_its_certificate(key_file: Path | None, info: ValidationInfo) -> Path | None:
    if "cert_file" in info.data and (key_file is None) != (info.data["cert_file"] is None):
        raise ValueError("and cert_file go together")
    return key_file


class Routing(Section):
    """How a replica is chosen."""

    cache_secret_file: Location | None = None
    """Secret that keeps tenants' cached prefixes apart (at least 32 bytes); every gateway of a fleet needs the same.
    Left out: `cache.secret` under `redis.data_dir`, created at the first use."""
