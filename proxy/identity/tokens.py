"""
From a bearer token to a principal, or to `InvalidToken` and nothing else.

- The unverified `iss` only chooses among the configured issuers; that issuer's own key, algorithms and audience then
  decide. A header never chooses an algorithm that the config does not list for the issuer.
- `exp`, `iss` and `aud` are required.
- No message repeats anything the token said.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import jwt

from proxy.catalog import Catalog
from proxy.errors import InvalidToken
from proxy.identity import claims, keys
from proxy.identity.principal import Principal
from proxy.settings import Settings
from proxy.settings.sections import Issuer

TOKEN_LENGTH_MAX = 8 * 1024
_UNVERIFIED: Any = {"verify_signature": False}
# `sub` and `jti` may be of any type: the claim that names the user is the config's to choose, and is checked there.
_VERIFIED: Any = {"require": ["exp", "iss", "aud"], "verify_sub": False, "verify_jti": False}

_MESSAGES: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "The token has expired."),
    (jwt.ImmatureSignatureError, "The token is not valid yet."),
    (jwt.MissingRequiredClaimError, "The token lacks `exp`, `iss` or `aud`."),
    (jwt.InvalidAudienceError, "The token was issued for another audience."),
    (jwt.InvalidAlgorithmError, "The token is signed by an algorithm that its issuer may not use here."),
    (jwt.InvalidSignatureError, "The token's signature is wrong."),
)
_MALFORMED = "The token is malformed."


@dataclass(frozen=True, slots=True)
class _Trusted:
    """One issuer, ready for verifying."""

    issuer: Issuer
    source: keys.KeySource
    tenant: claims.Pointer
    user: claims.Pointer
    plan: claims.Pointer
    scopes: claims.Pointer

    @classmethod
    def of(cls, issuer: Issuer, source: keys.KeySource) -> Self:
        where = issuer.claims
        pointers = (claims.pointer(text) for text in (where.tenant, where.user, where.plan, where.scopes))
        return cls(issuer, source, *pointers)


class Verifier:
    """Knows the issuers, and which tenant has which plans."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        """
        Load every issuer's key; a development key is made here if there is none yet.

        Raises: ConfigError for a key that cannot be used.
        """
        self._catalog = catalog
        self._leeway_s = settings.auth.leeway_s
        self._trusted = {
            issuer.issuer: _Trusted.of(issuer, keys.from_file(settings, index))
            for index, issuer in enumerate(settings.auth.issuers)
        }

    async def verify(self, token: str) -> Principal:
        """
        Return who a token speaks for.

        Raises: InvalidToken.
        Bounds: a token is at most 8 KiB.
        """
        if len(token) > TOKEN_LENGTH_MAX:
            raise InvalidToken(f"The token is longer than {TOKEN_LENGTH_MAX} characters.")
        trusted, header = self._issuer_of(token)
        said = self._decode(token, trusted, await trusted.source.key(header))
        return self._principal(said, trusted)

    def _issuer_of(self, token: str) -> tuple[_Trusted, Mapping[str, Any]]:
        try:
            unverified = jwt.decode_complete(token, options=_UNVERIFIED)
            name = unverified["payload"].get("iss")
        except Exception:  # noqa: BLE001 - whatever a parser does with hostile text, the text is at fault
            raise InvalidToken(_MALFORMED) from None
        trusted = self._trusted.get(name) if isinstance(name, str) else None
        if trusted is None:
            raise InvalidToken("The token's issuer is not known here.")
        return trusted, unverified["header"]

    def _decode(self, token: str, trusted: _Trusted, key: keys.Key | None) -> dict[str, Any]:
        if key is None:
            raise InvalidToken("The token is signed by a key that its issuer does not have.")
        issuer = trusted.issuer
        try:
            return jwt.decode(
                token,
                key,
                algorithms=issuer.algorithms,
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=self._leeway_s,
                options=_VERIFIED,
            )
        except Exception as error:  # noqa: BLE001 - as above
            message = next((text for kind, text in _MESSAGES if isinstance(error, kind)), _MALFORMED)
            raise InvalidToken(message) from None

    def _principal(self, said: Mapping[str, Any], trusted: _Trusted) -> Principal:
        tenant = claims.name(claims.find(said, trusted.tenant), "tenant")
        user = claims.name(claims.find(said, trusted.user), "user")
        claim = claims.find(said, trusted.plan)
        asked = None if claim is None else claims.name(claim, "plan")
        if self._catalog.tenant(tenant) is None:
            raise InvalidToken("The token's tenant is not known here.")
        plan = self._catalog.plan(tenant, asked)
        if plan is None:
            raise InvalidToken("The token names a plan that its tenant does not have.")
        return Principal(tenant, user, plan.name, claims.scopes(claims.find(said, trusted.scopes)))
