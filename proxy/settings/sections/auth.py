"""Whom the gateway believes: `[auth]` and `[[auth.issuers]]`."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from proxy.settings.sections.base import Section
from proxy.settings.values import Algorithm, Location, Pointer, PublishedUrl, ScopeName, published_url


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
    jwks_url: PublishedUrl | None = None
    """Where the issuer publishes its keys (JWKS): https, or http on the loopback. They are fetched in the background;
    a token with an unknown `kid` has them fetched again, at most every 10 seconds."""
    discovery: bool = False
    """Whether the keys are found by OpenID Connect discovery: at `ISSUER/.well-known/openid-configuration`."""
    refresh_s: Annotated[float, Field(ge=10, le=86_400)] = 300.0
    """Seconds between two fetches of published keys, where the endpoint's `max-age` says nothing; that counts from a
    minute to a day. A key that the issuer withdrew is believed for as long."""
    stale_s_max: Annotated[float, Field(ge=60, le=604_800)] = 86_400.0
    """Seconds for which published keys are believed while their endpoint fails; then tokens are answered 503."""
    key_file: Location | None = None
    """A PEM public key, or for HMAC the secret itself (at least 32 bytes; surrounding blank space is not part of it).
    An issuer has one of `key_file`, `jwks_url` and `discovery`. The development issuer may leave it out:
    `development.key` under `redis.data_dir`, created at the first use."""
    claims: Claims = Claims()
    """Where this issuer's tokens say who is asking."""
    scopes: Annotated[tuple[ScopeName, ...], Field(max_length=64)] = ()
    """The scopes that count in this issuer's tokens; any other that a token claims is passed over. `usage:self` reads
    the user's own usage, `usage:read` its tenant's, `usage:all` every tenant's: that one is for issuers of your own."""

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

    @field_validator("jwks_url")
    @classmethod
    def _publishes_public_keys(cls, jwks_url: str | None, info: ValidationInfo) -> str | None:
        if jwks_url is not None:
            _check_publishable(info.data)
        return jwks_url

    @field_validator("discovery")
    @classmethod
    def _can_be_discovered(cls, discovery: bool, info: ValidationInfo) -> bool:  # noqa: FBT001
        if discovery:
            _check_publishable(info.data)
            if info.data.get("jwks_url") is not None:
                raise ValueError("stands beside jwks_url: one of them is enough")
            try:
                published_url(info.data.get("issuer"))
            except ValueError as error:
                raise ValueError(f"needs an issuer that is a URL: it {error}") from None
        return discovery

    @field_validator("key_file")
    @classmethod
    def _has_a_key(cls, key_file: Path | None, info: ValidationInfo) -> Path | None:
        published = info.data.get("jwks_url") is not None or info.data.get("discovery") is True
        if key_file is not None and published:
            raise ValueError("stands beside jwks_url or discovery: one of them is enough")
        # A field that has a fault of its own is not in the data: that fault is told, and no other that follows from it.
        told = not {"development", "jwks_url", "discovery"} <= info.data.keys()
        if key_file is None and not (published or told or info.data["development"]):
            raise ValueError("is missing: an issuer needs a key_file, a jwks_url or discovery = true")
        return key_file

    @property
    def publishes(self) -> bool:
        """Return whether the keys are fetched from the issuer."""
        return self.discovery or self.jwks_url is not None


def _check_publishable(data: dict[str, Any]) -> None:
    if data.get("development") is True:
        raise ValueError("the development issuer's key is a file")
    if any(name.startswith("HS") for name in data.get("algorithms", ())):
        raise ValueError("a shared secret (HS*) is never published")


class Auth(Section):
    """Whom the gateway believes."""

    leeway_s: Annotated[int, Field(ge=0, le=600)] = 30
    """Clock difference allowed on `exp`, `nbf` and `iat`, in seconds; 0 allows none."""
    token_bytes_max: Annotated[int, Field(ge=512, le=24 * 1024)] = 8 * 1024
    """Bytes of a token; a longer one is answered 401. A head has room for 32 KiB in all."""
    issuers: Annotated[tuple[Issuer, ...], Field(min_length=1)]
    """At least one."""
