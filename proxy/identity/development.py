"""
An issuer for laptops and tests: it signs with a secret of its own, which nobody has to prepare.

A config has at most one, and a production config has none: then nothing here works.
"""

import time
from collections.abc import Collection
from typing import Any

import jwt

from proxy.fatal import Fatal
from proxy.identity import claims
from proxy.identity.secret_files import UnusableSecret, read_or_make
from proxy.settings import ConfigError, ConfigFault, Settings
from proxy.settings.sections import Issuer
from proxy.ulids import new_ulid


class NoDevelopmentIssuer(Fatal):
    """The config lets nobody but outside issuers sign tokens."""

    def __init__(self) -> None:
        super().__init__(
            "the config has no development issuer: ask your identity provider for a token, "
            "or add an [[auth.issuers]] with development = true"
        )


def mint(
    settings: Settings,
    *,
    tenant: str,
    user: str,
    plan: str | None = None,
    scopes: Collection[str] = (),
    ttl_s: int = 3600,
    now_s: int | None = None,
) -> str:
    """
    Sign a token with the development issuer's key, which the first call makes.

    Whether tenant and plan exist is the verifier's to say. Its `jti` is its own, so that it may be revoked.

    Raises: NoDevelopmentIssuer, ConfigError for a key that cannot be used.
    Units: seconds since the epoch; `now_s` is the clock's now for None.
    """
    issuer = _issuer(settings)
    issued_at = int(time.time()) if now_s is None else now_s
    said: dict[str, Any] = {
        "iss": issuer.issuer,
        "aud": issuer.audience,
        "jti": new_ulid(),
        "iat": issued_at,
        "exp": issued_at + ttl_s,
    }
    where = issuer.claims
    spoken = ((where.tenant, tenant), (where.user, user), (where.plan, plan), (where.scopes, " ".join(sorted(scopes))))
    for pointer, value in spoken:
        if value:
            claims.place(said, claims.pointer(pointer), value)
    return jwt.encode(said, _key(settings, issuer), algorithm="HS256")


def _issuer(settings: Settings) -> Issuer:
    for issuer in settings.auth.issuers:
        if issuer.development:
            return issuer
    raise NoDevelopmentIssuer


def _key(settings: Settings, issuer: Issuer) -> bytes:
    try:
        return read_or_make(settings.key_file(issuer))
    except UnusableSecret as error:
        raise ConfigError(
            [ConfigFault(f"auth.issuers[{settings.auth.issuers.index(issuer)}].key_file", str(error))]
        ) from None
