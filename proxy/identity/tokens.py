"""
From a bearer token to a principal, or to `InvalidToken`.

- A token that was judged before is looked up (`cache`); else it is taken apart strictly (`jose`) and verified
  (`trusted`), unless its sender sent too many wrong signatures before (`forgeries`).
- The unverified `iss` only chooses among the configured issuers; that issuer's own keys, algorithms and audience then
  decide. A header never chooses an algorithm that the config does not list for the issuer, nor a key outside its set.
- `exp`, `iss` and `aud` are required.

`KeysUnavailable` and `TooManyForgeries` are no judgement: the same token may be good a moment later.
"""

import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from proxy.catalog import Catalog
from proxy.errors import InvalidToken, TooManyForgeries
from proxy.identity import cache
from proxy.identity.cache import RefusedToken, Tokens, Verified
from proxy.identity.fetch import Fetcher
from proxy.identity.forgeries import Forgeries
from proxy.identity.jose import Unverified, read_again, take_apart
from proxy.identity.keys import KeySource, VerifyingKey, from_file
from proxy.identity.principal import Principal
from proxy.identity.published import PublishedKeys, Told
from proxy.identity.revocation import Origin, Revoked
from proxy.identity.trusted import Forged, NotYetValid, Trusted, WrongAlgorithm
from proxy.settings import Settings


class Verifier:
    """
    Knows the issuers, and which tenant has which plans.

    `async with Verifier(settings, catalog)` keeps published keys fresh; keys from files need no block.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        revoked: Revoked | None = None,
        told: Told = lambda issuer, ok: None,
    ) -> None:
        """
        Load every issuer's key that stands in a file; a development key is made here if there is none yet.

        Whoever keeps `revoked` up to date, `told` hears of every fetch of published keys.
        Raises: ConfigError for a key that cannot be used.
        """
        self._catalog = catalog
        self._leeway_s = settings.auth.leeway_s
        self._fetch = Fetcher()
        self._published: list[PublishedKeys] = []
        self._trusted = {
            issuer.issuer: Trusted.of(issuer, self._source(settings, index, told))
            for index, issuer in enumerate(settings.auth.issuers)
        }
        self._verified = Tokens[Verified](cache.VERIFIED_MAX, cache.VERIFIED_CHARS_MAX)
        self._refused = Tokens[RefusedToken](cache.REFUSED_MAX, cache.REFUSED_CHARS_MAX)
        self._forgeries = Forgeries()
        self._revoked = revoked or Revoked()
        self._block = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin to fetch what issuers publish. Nobody waits for it: the gateway is ready without."""
        if self._published:
            await self._block.enter_async_context(self._fetch)
        for source in self._published:
            await self._block.enter_async_context(source)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Fetch no more."""
        await self._block.aclose()

    def known(self, token: str) -> Principal | None:
        """Return who a token speaks for that was verified before; raise `InvalidToken` where it was revoked since."""
        known = self._verified.find(token)
        if known is None:
            return None
        now = time.time()
        if not known.holds(now):
            return None
        if known.judged != self._revoked.version:
            self._check(token, known, now)
        return known.principal

    async def verify(self, token: str, address: str = "") -> Principal:
        """
        Return who a token speaks for; `address` is where it came from.

        Raises: InvalidToken, KeysUnavailable, TooManyForgeries.
        Bounds: a token is at most 8 KiB. One that was verified before is looked up without giving way to other tasks.
        """
        known = self.known(token)
        if known is not None:
            return known
        now = time.time()
        refused = self._refused.find(token)
        if refused is not None and now < refused.until:
            raise InvalidToken(refused.message)
        return await self._judge(token, address, now)

    async def _judge(self, token: str, address: str, now: float) -> Principal:
        unverified = take_apart(token)
        trusted = self._issuer_of(unverified)
        key = await trusted.source.key(unverified.kid, unverified.algorithm)
        if key is None:
            raise InvalidToken("The token is signed by a key that its issuer does not have.")
        self._admit(address, unverified, trusted)
        try:
            said = trusted.decode(token, key, self._leeway_s)
            principal = trusted.principal(said, self._catalog)
        except InvalidToken as error:
            self._note(error, address, unverified, trusted)
            if not isinstance(error, NotYetValid):
                self._refused.keep(token, RefusedToken(error.message, now + cache.REFUSED_S))
            raise
        self._forgeries.right(trusted.claimed(said))
        known = self._lasting(principal, key, said)
        self._verified.keep(token, known)
        self._check(token, known, now)
        return principal

    def _source(self, settings: Settings, index: int, told: Told) -> KeySource:
        issuer = settings.auth.issuers[index]
        if not issuer.publishes:
            return from_file(settings, index)
        self._published.append(PublishedKeys(issuer, self._fetch, told))
        return self._published[-1]

    def _issuer_of(self, unverified: Unverified) -> Trusted:
        name = unverified.claims.get("iss")
        trusted = self._trusted.get(name) if isinstance(name, str) else None
        if trusted is None:
            raise InvalidToken("The token's issuer is not known here.")
        if unverified.algorithm not in trusted.issuer.algorithms:
            raise WrongAlgorithm
        return trusted

    def _admit(self, address: str, unverified: Unverified, trusted: Trusted) -> None:
        wait_us = self._forgeries.wait_us(address, trusted.claimed(unverified.claims), _now_us())
        if wait_us:
            raise TooManyForgeries(wait_us)

    def _note(self, error: InvalidToken, address: str, unverified: Unverified, trusted: Trusted) -> None:
        if isinstance(error, Forged):
            self._forgeries.wrong(address, trusted.claimed(unverified.claims), _now_us())

    def _check(self, token: str, known: Verified, now: float) -> None:
        """Refuse what is revoked; whatever is not has its answer until the list changes."""
        version = self._revoked.version
        if not self._revoked.empty and self._revoked.refuses(_origin(token, known.principal), now):
            raise InvalidToken("The token was revoked.")
        known.judged = version

    def _lasting(self, principal: Principal, key: VerifyingKey, said: dict[str, Any]) -> Verified:
        begins = max(said.get("nbf", 0), said.get("iat", 0)) - self._leeway_s
        # Floats are smaller than whole numbers of two digits, and compared faster with what a clock says.
        return Verified(principal, key, float(begins), float(int(said["exp"]) + self._leeway_s))


def _origin(token: str, principal: Principal) -> Origin:
    """Return what a revocation may know a verified token by."""
    said = read_again(token)
    return Origin(said["iss"], principal, said.get("jti"), said.get("iat"))


def _now_us() -> int:
    return time.monotonic_ns() // 1_000
