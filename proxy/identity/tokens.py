"""
From a bearer token to a principal, or to `InvalidToken`.

- A token that was judged before is looked up (`cache`); else it is taken apart strictly (`jose`) and verified
  (`trusted`), in its turn while many others are forged (`forgeries`).
- The unverified `iss` only chooses among the configured issuers; that issuer's own keys, algorithms and audience then
  decide. A header never chooses an algorithm that the config does not list for the issuer, nor a key outside its set.
- `exp`, `iss` and `aud` are required.

`KeysUnavailable` and `TooManyForgeries` are no judgement: the same token may be good a moment later.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, Self

from proxy.catalog import Catalog
from proxy.errors import InvalidToken
from proxy.identity import cache
from proxy.identity.cache import RefusedToken, Tokens, Verified
from proxy.identity.forgeries import Forgeries
from proxy.identity.jose import Unverified, read_again, take_apart
from proxy.identity.key_ring import Held, KeyRing
from proxy.identity.keys import KEYS_TRIED_MAX, VerifyingKey
from proxy.identity.principal import Principal
from proxy.identity.published import Told
from proxy.identity.revocation import Origin, Revoked
from proxy.identity.trusted import Forged, NotYetValid, Trusted, WrongAlgorithm
from proxy.settings import Settings
from proxy.settings.sections import Auth


@dataclass(frozen=True, slots=True)
class Memory:
    """What verifiers have in common, one config after the other: where keys come from, and what they know of tokens."""

    ring: KeyRing
    revoked: Revoked
    """Kept up to date by somebody else."""
    verified: Tokens[Verified] = field(default_factory=lambda: Tokens(cache.VERIFIED_MAX, cache.VERIFIED_CHARS_MAX))
    refused: Tokens[RefusedToken] = field(default_factory=lambda: Tokens(cache.REFUSED_MAX, cache.REFUSED_CHARS_MAX))
    forgeries: Forgeries = field(default_factory=Forgeries)
    verifiers: "count[int]" = field(default_factory=lambda: count(1))
    """Numbers them."""


class Verifier:
    """
    Knows the issuers of one config, and which tenant has which plans there.

    The first is made by `Verifier.of`, and its block keeps published keys fresh, those of the verifiers `after` it too;
    keys from files need no block.
    """

    def __init__(self, held: dict[str, Held], auth: Auth, catalog: Catalog, memory: Memory) -> None:
        self._held = held
        self._auth = auth
        self._leeway_s = auth.leeway_s
        self._catalog = catalog
        self._memory = memory
        self._number = next(memory.verifiers)
        self._trusted = {name: Trusted.of(issuer, source) for name, (issuer, _, source) in held.items()}
        self._verified = memory.verified
        self._refused = memory.refused
        self._forgeries = memory.forgeries
        self._revoked = memory.revoked

    @classmethod
    def of(
        cls,
        settings: Settings,
        catalog: Catalog,
        revoked: Revoked | None = None,
        told: Told = lambda issuer, ok: None,
    ) -> Self:
        """
        Load every issuer's key that stands in a file; a development key is made here if there is none yet.

        Whoever keeps `revoked` up to date, `told` hears of every fetch of published keys.
        Raises: ConfigError with every key that cannot be used.
        """
        ring = KeyRing(told)
        made = cls(ring.sources(settings), settings.auth, catalog, Memory(ring, revoked or Revoked()))
        made.take_over()
        return made

    def after(self, settings: Settings, catalog: Catalog) -> Self:
        """
        Return the verifier of another config, which is to `take_over`. It reads files, and may be made in a thread.

        Raises: ConfigError, as `of`.
        """
        return type(self)(self._memory.ring.sources(settings), settings.auth, catalog, self._memory)

    def only(self, issuers: Collection[str], catalog: Catalog) -> Self:
        """Return one that believes some of the issuers of this one, and knows these tenants."""
        held = {name: held for name, held in self._held.items() if name in issuers}
        return type(self)(held, self._auth, catalog, self._memory)

    def take_over(self) -> None:
        """Let the issuers of this one, and no others, be those whose published keys are kept fresh."""
        self._memory.ring.hold(self._held)

    def rekeyed(self) -> list[str]:
        """Return the issuers that are as the config that holds has them, but for their keys."""
        return self._memory.ring.rekeyed(self._held)

    @property
    def issuers(self) -> Collection[str]:
        """Return the names of those that it believes."""
        return self._held.keys()

    async def __aenter__(self) -> Self:
        """Begin to fetch what issuers publish. Nobody waits for it: the gateway is ready without."""
        await self._memory.ring.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Fetch no more."""
        await self._memory.ring.__aexit__(kind, error, trace)

    def known(self, token: str) -> Principal | None:
        """Return who a token speaks for that was verified before; raise `InvalidToken` where it was revoked since."""
        known = self._verified.find(token)
        if known is None:
            return None
        now = time.time()
        if not known.holds(now) or (known.by != self._number and not self._believes(token, known)):
            return None
        if known.judged != self._revoked.version:
            self._check(token, known, now)
        return known.principal

    async def verify(self, token: str, address: str = "") -> Principal:
        """
        Return who a token speaks for; `address` is where it came from.

        Raises: InvalidToken, KeysUnavailable, TooManyForgeries.
        Bounds: a token is at most `auth.token_bytes_max`. One that was verified before is looked up without giving way
        to other tasks.
        """
        known = self.known(token)
        if known is not None:
            return known
        now = time.time()
        refused = self._refused.find(token)
        if refused is not None and refused.by == self._number and now < refused.until:
            raise InvalidToken(refused.message, refused.what)
        return await self._judge(token, address, now)

    async def _judge(self, token: str, address: str, now: float) -> Principal:
        unverified = take_apart(token, self._auth.token_bytes_max)
        trusted = self._issuer_of(unverified)
        keys = await trusted.source.keys(unverified.kid, unverified.algorithm)
        if not keys:
            raise InvalidToken("The token is signed by a key that its issuer does not have.", "key")
        claimed = trusted.claimed(unverified.claims)
        if self._catalog.tenant(claimed[1]) is None:
            claimed = (claimed[0], "", "")  # whoever makes up tenants has one turn for all of them
        await self._forgeries.turn(address, claimed)
        tried = _Tried(token, unverified, trusted, self._leeway_s)
        try:
            said, key = await tried.proven(keys)
            principal = trusted.principal(said, self._catalog)
        except InvalidToken as error:
            if isinstance(error, Forged):
                self._forgeries.wrong(claimed, tried.spent_ns / 1_000)
            else:
                self._forgeries.genuine()
            if not isinstance(error, NotYetValid):
                self._refused.keep(token, RefusedToken(error.message, error.what, now + cache.REFUSED_S, self._number))
            raise
        self._forgeries.right(claimed)
        known = self._lasting(principal, key, said)
        self._verified.keep(token, known)
        self._check(token, known, now)
        return principal

    def _believes(self, token: str, known: Verified) -> bool:
        """
        Look at a token again that the verifier of another config believed; no for one that must be verified anew.

        Raises: InvalidToken, where this config does not know its tenant or plan.
        """
        said = read_again(token)
        trusted = self._trusted.get(said["iss"])
        if trusted is None or not trusted.source.has(known.key):
            return False
        known.principal, known.by = trusted.principal(said, self._catalog), self._number
        return True

    def _issuer_of(self, unverified: Unverified) -> Trusted:
        name = unverified.claims.get("iss")
        trusted = self._trusted.get(name) if isinstance(name, str) else None
        if trusted is None:
            raise InvalidToken("The token's issuer is not known here.", "issuer")
        if unverified.algorithm not in trusted.issuer.algorithms:
            raise WrongAlgorithm
        return trusted

    def _check(self, token: str, known: Verified, now: float) -> None:
        """Refuse what is revoked; whatever is not has its answer until the list changes."""
        version = self._revoked.version
        if not self._revoked.empty and self._revoked.refuses(_origin(token, known.principal), now):
            raise InvalidToken("The token was revoked.", "revoked")
        known.judged = version

    def _lasting(self, principal: Principal, key: VerifyingKey, said: dict[str, Any]) -> Verified:
        begins = max(said.get("nbf", 0), said.get("iat", 0)) - self._leeway_s
        # Floats are smaller than whole numbers of two digits, and compared faster with what a clock says.
        return Verified(principal, key, float(begins), float(int(said["exp"]) + self._leeway_s), by=self._number)


@dataclass(slots=True)
class _Tried:
    """A token, and what it costs to find the key that signed it. Bounds: `KEYS_TRIED_MAX` keys."""

    token: str
    unverified: Unverified
    trusted: Trusted
    leeway_s: int
    spent_ns: int = 0
    """Of processor time, on keys that did not."""

    async def proven(self, keys: Sequence[VerifyingKey]) -> tuple[dict[str, Any], VerifyingKey]:
        """Return the claims, and which of these keys or of those published since proves them; raise `InvalidToken`."""
        tried: list[VerifyingKey] = []
        while keys:
            for key in keys[: KEYS_TRIED_MAX - len(tried)]:
                tried.append(key)
                if (said := self._said(key)) is not None:
                    return said, key
            keys = () if len(tried) >= KEYS_TRIED_MAX else await self._published_since(tried)
        raise Forged

    def _said(self, key: VerifyingKey) -> dict[str, Any] | None:
        begun = time.thread_time_ns()
        try:
            return self.trusted.decode(self.token, key, self.leeway_s)
        except Forged:
            self.spent_ns += time.thread_time_ns() - begun
            return None

    async def _published_since(self, tried: Sequence[VerifyingKey]) -> Sequence[VerifyingKey]:
        found = await self.trusted.source.newer(self.unverified.kid, self.unverified.algorithm)
        return [key for key in found if not any(key is each for each in tried)]


def _origin(token: str, principal: Principal) -> Origin:
    """Return what a revocation may know a verified token by."""
    said = read_again(token)
    return Origin(said["iss"], principal, said.get("jti"), said.get("iat"))
