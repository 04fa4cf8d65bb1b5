"""
One issuer of the config, and what it takes for one of its tokens to be believed.

PyJWT judges signature, times, issuer and audience; the config says by which keys and algorithms, and where the claims
stand. No message repeats anything the token said.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import jwt

from proxy.catalog import Catalog
from proxy.errors import InvalidToken
from proxy.identity import claims
from proxy.identity.keys import KeySource, VerifyingKey
from proxy.identity.principal import Principal
from proxy.settings.sections import Issuer

Claimed = tuple[str, str, str]
"""Issuer, tenant and user, as a token says before it is verified."""

# `sub` may be of any type: the claim that names the user is the config's to choose, and is checked there.
_OPTIONS: Any = {"require": ["exp", "iss", "aud"], "verify_sub": False}


class Forged(InvalidToken):
    """The signature is wrong."""

    def __init__(self) -> None:
        super().__init__("The token's signature is wrong.", "signature")


class NotYetValid(InvalidToken):
    """The token becomes valid later."""

    def __init__(self) -> None:
        super().__init__("The token is not valid yet.", "early")


class WrongAlgorithm(InvalidToken):
    """The header names an algorithm that the config or the key does not allow."""

    def __init__(self) -> None:
        super().__init__("The token is signed by an algorithm that its issuer may not use here.", "algorithm")


@dataclass(frozen=True, slots=True)
class Trusted:
    """One issuer, ready for verifying."""

    issuer: Issuer
    source: KeySource
    counting: frozenset[str]
    """The scopes that count in this issuer's tokens."""
    tenant: claims.Pointer
    user: claims.Pointer
    plan: claims.Pointer
    scopes: claims.Pointer

    @classmethod
    def of(cls, issuer: Issuer, source: KeySource) -> Self:
        """Read the config's pointers."""
        where = issuer.claims
        pointers = (claims.pointer(text) for text in (where.tenant, where.user, where.plan, where.scopes))
        return cls(issuer, source, frozenset(issuer.scopes), *pointers)

    def claimed(self, said: Mapping[str, Any]) -> Claimed:
        """Return whom an unverified token says it speaks for; what is no text is nobody."""
        tenant, user = (claims.find(said, where) for where in (self.tenant, self.user))
        return self.issuer.issuer, tenant if isinstance(tenant, str) else "", user if isinstance(user, str) else ""

    def decode(self, token: str, key: VerifyingKey, leeway_s: int) -> dict[str, Any]:
        """Return a token's claims, proven by a key; raise InvalidToken."""
        try:
            return jwt.decode(
                token,
                key.material,
                algorithms=list(key.algorithms),
                audience=self.issuer.audience,
                issuer=self.issuer.issuer,
                leeway=leeway_s,
                options=_OPTIONS,
            )
        except Exception as error:  # noqa: BLE001 - whatever a parser does with hostile text, the text is at fault
            raise _refusal(error) from None

    def principal(self, said: Mapping[str, Any], catalog: Catalog) -> Principal:
        """Return whom proven claims speak for, as far as the config agrees; raise InvalidToken."""
        name = claims.name(claims.find(said, self.tenant), "tenant")
        user = claims.name(claims.find(said, self.user), "user")
        claim = claims.find(said, self.plan)
        asked = None if claim is None else claims.name(claim, "plan")
        tenant = catalog.tenant(name)
        if tenant is None:
            raise InvalidToken("The token's tenant is not known here.", "tenant")
        plan = catalog.plan(name, asked)
        if plan is None:
            raise InvalidToken("The token names a plan that its tenant does not have.", "plan")
        scopes = claims.scopes(claims.find(said, self.scopes)) & self.counting
        # The catalog's own text: one for all of a tenant's users.
        return Principal(tenant.name, user, plan.name, scopes or claims.NO_SCOPES)


def _refusal(error: Exception) -> InvalidToken:
    match error:
        case jwt.InvalidSignatureError():
            return Forged()
        case jwt.ImmatureSignatureError():
            return NotYetValid()
        case jwt.InvalidAlgorithmError():
            return WrongAlgorithm()
        case jwt.ExpiredSignatureError():
            return InvalidToken("The token has expired.", "expired")
        case jwt.MissingRequiredClaimError():
            return InvalidToken("The token lacks `exp`, `iss` or `aud`.", "claims")
        case jwt.InvalidAudienceError():
            return InvalidToken("The token was issued for another audience.", "audience")
        case _:
            return InvalidToken("The token is malformed.")
