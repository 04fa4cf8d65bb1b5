"""Whom the gateway believes: `[auth]` and `[[auth.issuers]]`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from proxy.settings.sections.base import Section
from proxy.settings.values import Algorithm, Location, Pointer


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
