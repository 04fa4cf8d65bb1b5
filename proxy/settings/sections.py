"""
What a config file may hold: one class a section, one docstring a field.

The docstrings are the operator's reference: unit, range, and what 0 means. A path is taken from the config file's
folder; the demo config's are taken from the current directory.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from policies.quota import MAX_AMOUNT, Limit, Per, Scope, Unit
from proxy.settings.values import (
    Algorithm,
    BaseUrl,
    Group,
    HeaderName,
    Location,
    Micros,
    Name,
    Pointer,
    Port,
    RedisUrl,
    Seconds,
    Tokens,
)

GATEWAYS_OWN_FIELDS = frozenset(
    "cache_salt priority request_id session_id kv_transfer_params ec_transfer_params "
    "max_tokens max_completion_tokens best_of use_beam_search".split()
)
"""With one of these a tenant could pass its quota, its lane or its cache."""


class Section(BaseModel):
    """What every section shares: nothing unknown, nothing coerced, nothing changed later."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )


class Endpoint(StrEnum):
    """What a model may be asked."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"


class Listen(Section):
    """Where clients reach the gateway."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for all."""
    port: Port = 8080
    """TCP port; 0 takes a free one."""


class Admin(Section):
    """Where operators and Prometheus reach it. Keep it off public networks: `/metrics` asks for no token."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on."""
    port: Port = 9090
    """TCP port; 0 takes a free one."""


class Redis(Section):
    """Where quotas, reservations and the ledger's tail live."""

    url: RedisUrl | None = None
    """`redis://`, `rediss://` or `unix://`, without a password. Left out: a redis-server of our own, append-only, on a
    unix socket under `data_dir`."""
    password_file: Location | None = None
    """File that holds the password for `url`; left out where it needs none."""
    data_dir: Location = Path("data")
    """Folder for what the gateway writes itself: the embedded Redis, the development key, the cache secret."""
    timeout_s: Seconds = 2.0
    """Deadline of every call, in seconds; past it a request is answered `ledger_unavailable`."""
    allow_unsafe: bool = False
    """Start even on a Redis that may lose or evict data (no append-only file, or a `maxmemory-policy` other than
    `noeviction`). For development."""

    @field_validator("password_file")
    @classmethod
    def _is_for_an_address(cls, password_file: Path | None, info: ValidationInfo) -> Path | None:
        if password_file is not None and info.data.get("url", "") is None:
            raise ValueError("is of no use without a url: the embedded Redis is guarded by its socket's folder")
        return password_file


class Claims(Section):
    """Where a token says who is asking, as JSON pointers (RFC 6901) into its claims."""

    tenant: Pointer = "/tenant"
    """The tenant: a string that names one of `[tenants]`."""
    user: Pointer = "/sub"
    """The user: any string of 1 to 128 printable characters."""
    plan: Pointer = "/plan"
    """The plan, one of the tenant's; may be absent from a token, then the tenant's first plan counts."""
    scopes: Pointer = "/scope"
    """Scopes: a list of strings, or one string with spaces between them; may be absent."""


class Issuer(Section):
    """Who may sign tokens, and with what."""

    issuer: Annotated[str, Field(min_length=1, max_length=512)]
    """The token's `iss`, to the letter."""
    audience: Annotated[str, Field(min_length=1, max_length=512)] = "tollway"
    """The token's `aud` must be or contain this."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("EdDSA",)
    """The only algorithms this issuer's tokens may use. HMAC (`HS*`) never stands beside the others: a public key
    would become a shared secret."""
    development: bool = False
    """Whether `tollway token` may sign for this issuer. Needs `algorithms = ["HS256"]`; at most one issuer."""
    key_file: Location | None = None
    """A PEM public key, or for HMAC the secret itself (at least 32 bytes; surrounding blank space is not part of it).
    The development issuer may leave it out: `development.key` under `redis.data_dir`, created at the first use."""
    claims: Claims = Claims()
    """Where this issuer's tokens say who is asking."""

    @field_validator("algorithms")
    @classmethod
    def _one_kind_of_key(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        if len({name.startswith("HS") for name in algorithms}) > 1:
            raise ValueError("HMAC (HS*) must not stand beside algorithms with a public key")
        return algorithms

    @field_validator("development")
    @classmethod
    def _signs_by_hmac(cls, development: bool, info: ValidationInfo) -> bool:  # noqa: FBT001
        if development and info.data.get("algorithms", ("HS256",)) != ("HS256",):
            raise ValueError('a development issuer needs algorithms = ["HS256"]')
        return development

    @field_validator("key_file")
    @classmethod
    def _has_a_key(cls, key_file: Path | None, info: ValidationInfo) -> Path | None:
        if key_file is None and info.data.get("development") is False:
            raise ValueError("is missing")
        return key_file


class Auth(Section):
    """Whom the gateway believes."""

    leeway_s: Annotated[int, Field(ge=0, le=600)] = 30
    """Clock difference allowed on `exp`, `nbf` and `iat`, in seconds; 0 allows none."""
    issuers: Annotated[tuple[Issuer, ...], Field(min_length=1)]
    """At least one."""


class Launch(Section):
    """How the gateway starts a model's replicas itself; without this table they run elsewhere and need a `url`."""

    engine: Literal["sim", "vllm"]
    """`sim` for the built-in simulated engine, `vllm` for the real one."""
    weights: str = ""
    """What `vllm` loads: a folder or a Hugging Face name. Empty: the tiny model of `deploy/vllm/install.sh`."""
    args: tuple[str, ...] = ()
    """Further arguments for the engine's command line."""


class Replica(Section):
    """One engine that serves the model."""

    name: HeaderName
    """Unique over all models: metrics, the ledger and `x-tollway-replica` use it. Letters, digits, `.`, `_` and `-`."""
    url: BaseUrl | None = None
    """`http://host:port`. A launched replica without one gets a free port on the loopback."""
    sequences: Annotated[int, Field(ge=1, le=65_536)] = 64
    """How many choices it runs at a time, vLLM's `--max-num-seqs`."""
    group: Group = ""
    """Label for canaries; empty for none."""


class Model(Section):
    """One model as clients name it, and the replicas that serve it."""

    name: Name
    """What clients and reports call it; also the name the engine serves it by."""
    aliases: tuple[Name, ...] = ()
    """Other names that clients may use for it."""
    context_tokens: Annotated[int, Field(ge=1, lt=2**31)]
    """Prompt and completion together at most, vLLM's `--max-model-len`."""
    default_completion: Annotated[int, Field(ge=1, lt=2**31)] = 1024
    """Tokens reserved and asked for a choice when the request names no maximum."""
    min_completion: Annotated[int, Field(ge=1, lt=2**31)] = 256
    """A request is never clamped below this (or below what it asked, if less): it is refused instead."""
    template_tokens: Tokens = 64
    """Tokens that the chat template adds at most, beyond the bytes of the messages as JSON; 0 for none."""
    endpoints: Annotated[tuple[Endpoint, ...], Field(min_length=1)] = (Endpoint.CHAT, Endpoint.COMPLETIONS)
    """What the model may be asked: `chat`, `completions`, `embeddings`."""
    cache_scope: Name = "tenant"
    """Who may share a cached prefix: `user`, `tenant`, or the name of a group of your own. Every model and tenant under
    the same group's name shares."""
    extra_fields: tuple[Name, ...] = ()
    """Request fields to forward beyond the endpoint's own list; none that the gateway must decide itself."""
    launch: Launch | None = None
    """Left out: the replicas run elsewhere."""
    replicas: Annotated[tuple[Replica, ...], Field(min_length=1)]
    """At least one."""

    @field_validator("extra_fields")
    @classmethod
    def _not_ours(cls, extra_fields: tuple[str, ...]) -> tuple[str, ...]:
        if taken := sorted(GATEWAYS_OWN_FIELDS.intersection(extra_fields)):
            raise ValueError(
                f"must not hold {', '.join(taken)}: quota and isolation between tenants rest on the gateway's"
            )
        return extra_fields


class PlanLimit(Section):
    """One line of a plan. No two of a plan may share scope, unit and per."""

    scope: Scope
    """Whose use is counted: `tenant`, `user`, `model` (the tenant's use of one model) or `user_model`."""
    unit: Unit
    """`tokens`, `requests`, or `concurrent` (requests in flight)."""
    amount: Annotated[int, Field(ge=1, le=MAX_AMOUNT)]
    """How many, 1 to 2**53 - 1."""
    per: Per | None = None
    """`second`, `minute` and `hour` are rates that refill all the time; `day` and `month` are calendar windows in UTC.
    Left out for `concurrent`, needed otherwise."""

    @field_validator("per")
    @classmethod
    def _fits_the_unit(cls, per: Per | None, info: ValidationInfo) -> Per | None:
        unit = info.data.get("unit")
        if unit is Unit.CONCURRENT and per is not None:
            raise ValueError("must be left out for unit = 'concurrent'")
        if unit in (Unit.TOKENS, Unit.REQUESTS) and per is None:
            raise ValueError(f"is missing: unit = '{unit}' counts per second, minute, hour, day or month")
        return per

    @property
    def limit(self) -> Limit:
        """Return this line as the policies know it."""
        return Limit(scope=self.scope, unit=self.unit, amount=self.amount, per=self.per)


class Plan(Section):
    """What a tenant that has this plan may do. Without limits, anything."""

    lane: Literal["interactive", "batch"] = "interactive"
    """The lane of its requests."""
    models: tuple[Name, ...] = ("*",)
    """Names of the models it may use; `*` for all."""
    limits: tuple[PlanLimit, ...] = ()
    """A request must hold every one of them."""


class Tenant(Section):
    """One customer."""

    plans: Annotated[tuple[Name, ...], Field(min_length=1)]
    """The plans its tokens may name; the first counts for a token that names none."""


class PriceLine(Section):
    """What one model costs. A model without a price is served and billed 0."""

    model: Name
    """The model's name, no alias."""
    version: Name
    """Stamped on each record at its reservation, so that a bill can be explained later. Change it with the price."""
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    """ISO 4217."""
    prompt: Micros
    """Per million prompt tokens that were not cached, in millionths of the currency; 0 is free."""
    cached: Micros
    """Per million prompt tokens served from the prefix cache, in millionths of the currency; 0 is free."""
    completion: Micros
    """Per million completion tokens, in millionths of the currency; 0 is free."""


class Routing(Section):
    """How a replica is chosen."""

    cache_secret_file: Location | None = None
    """Secret that keeps tenants' cached prefixes apart (at least 32 bytes); every gateway of a fleet needs the same.
    Left out: `cache.secret` under `redis.data_dir`, created at the first use."""


class Ledger(Section):
    """How often a running request notes what it has used: a gateway that is killed loses at most one beat."""

    progress_s: Seconds = 1.0
    """Seconds between two beats."""


class Bounds(Section):
    """The most that anything may take."""

    body_bytes_max: Annotated[int, Field(ge=1024, le=2**30)] = 10 * 2**20
    """Bytes of a request's body."""
    body_s_max: Seconds = 30.0
    """Seconds for the body to arrive."""
    json_depth_max: Annotated[int, Field(ge=4, le=200)] = 64
    """Nesting of a body's JSON, at most 200."""
    prompts_max: Annotated[int, Field(ge=1, le=65_536)] = 128
    """Prompts (or inputs to embed) in one request."""
    n_max: Annotated[int, Field(ge=1, le=4096)] = 16
    """Choices a prompt (`n`)."""
    connect_s_max: Seconds = 2.0
    """Seconds to connect to a replica."""
    ttft_s_max: Seconds = 120.0
    """Seconds from sending a request to a replica until its first token."""
    idle_s_max: Seconds = 60.0
    """Seconds without a byte from the replica, after the first token."""
    exchange_s_max: Seconds = 3600.0
    """Seconds for a whole exchange."""
    attempts_max: Annotated[int, Field(ge=1, le=10)] = 2
    """Replicas tried before an error is answered; 1 never retries."""
    user_series_max: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    """Users with metric series of their own; the rest count as `other`, and with 0 all do."""
    drain_s_max: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """Seconds that a stopping gateway waits for running exchanges; 0 cuts them at once."""


class Settings(Section):
    """The whole file."""

    listen: Listen = Listen()
    admin: Admin = Admin()
    redis: Redis = Redis()
    auth: Auth
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    plans: Annotated[dict[Name, Plan], Field(min_length=1)]
    tenants: Annotated[dict[Name, Tenant], Field(min_length=1)]
    prices: tuple[PriceLine, ...] = ()
    routing: Routing = Routing()
    ledger: Ledger = Ledger()
    limits: Bounds = Bounds()

    @property
    def cache_secret_file(self) -> Path:
        """Return where the secret for cache salts is kept."""
        return self.routing.cache_secret_file or self.redis.data_dir / "cache.secret"

    def key_file(self, issuer: Issuer) -> Path:
        """Return where an issuer's key is kept."""
        return issuer.key_file or self.redis.data_dir / "development.key"
