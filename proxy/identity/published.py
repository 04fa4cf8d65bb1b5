"""
The keys that an issuer publishes, kept fresh: fetched in the background, again when a token names one that is unknown.

Rules:
- One fetch at a time: whoever needs one waits for the one under way.
- A token asks for a fetch at most every 10 s, however many name keys that do not exist; nothing is remembered of them.
- While the endpoint fails, the keys at hand stay good for `stale_s_max`; then none is, until it answers.
- A key that left the set is retired, and every token that it verified with it.

Decision: a token whose key is unknown while the endpoint fails is answered 503 and not 401, because it was not judged:
a client that is told 401 throws a good token away.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import NamedTuple, Self

from engine.runtime.background import Background
from proxy.errors import KeysUnavailable
from proxy.identity.fetch import FETCH_S_MAX, Document, Fetch, FetchFailed
from proxy.identity.jwks import KeySet, UnusableKeys, read_keys
from proxy.identity.keys import VerifyingKey
from proxy.settings.sections import Issuer
from proxy.settings.values import published_url

ASK_S_MIN = 10.0
"""Between two fetches that tokens ask for."""
RETRY_S = 10.0
"""After a fetch that failed."""
MAX_AGE_S_MIN, MAX_AGE_S_MAX = 60, 86_400
"""What a `max-age` may say; beyond these it is taken for the nearer one."""
_WHERE_KEYS_ARE = ("issuer", "jwks_url", "discovery", "algorithms")
"""Of a section: another of these, and the keys at hand are not known to be the issuer's."""
_WELL_KNOWN = "/.well-known/openid-configuration"
WAIT_S_MAX = FETCH_S_MAX + 1.0
"""For a token that needs a fetch."""

Told = Callable[[str, bool], None]
"""Told an issuer, and whether its keys could be fetched; feeds `tollway_key_fetches_total`."""

_log = logging.getLogger(__name__)


class Fetched(NamedTuple):
    """What is known of an issuer's keys, and since when. Units: seconds of a monotonic clock."""

    keys: KeySet = KeySet()
    at: float = -float("inf")


NOTHING = Fetched()


class PublishedKeys(Background):
    """
    One issuer's published keys: `async with PublishedKeys(issuer, fetch)` keeps them fresh until it is left.

    Units: `ask_s_min` and `retry_s` in seconds.
    """

    def __init__(
        self,
        issuer: Issuer,
        fetch: Fetch,
        told: Told,
        *,
        ask_s_min: float = ASK_S_MIN,
        retry_s: float = RETRY_S,
        known: Fetched = NOTHING,
    ) -> None:
        super().__init__(self._refresh_on, "tollway-keys")
        self._issuer = issuer
        self._fetch = fetch
        self._told = told
        self._ask_s_min = ask_s_min
        self._retry_s = retry_s
        self._keys, self._fetched_at = known
        self._failing = known is NOTHING
        self._asked_at = -float("inf")
        self._asked = asyncio.Event()
        self._fetching = True  # the background begins with a fetch
        self._fetch_ended = asyncio.Event()

    def heir(self, issuer: Issuer) -> Self:
        """
        Return the source of an issuer whose section was changed: it begins with the keys at hand, where they fit it.

        They are other keys: what these verified by the section before has to be verified by the new one.
        """
        there = all(getattr(issuer, name) == getattr(self._issuer, name) for name in _WHERE_KEYS_ARE)
        others = KeySet(tuple(replace(key) for key in self._keys.keys))
        return type(self)(
            issuer, self._fetch, self._told, known=Fetched(others, self._fetched_at) if there else NOTHING
        )

    def has(self, key: VerifyingKey) -> bool:
        """Tell whether a key is among those that the issuer published last."""
        return any(key is known for known in self._keys.keys)

    async def keys(self, kid: str | None, algorithm: str) -> Sequence[VerifyingKey]:
        """
        Return the keys that a token may mean, after a fetch if its is not known; none where its issuer publishes none.

        Raises: KeysUnavailable when that cannot be told.
        Bounds: waits 6 s at most.
        """
        found = self._keys.find(kid, algorithm)
        if not found and not self._keys.knows(kid):
            await self._another_fetch()
            found = self._keys.find(kid, algorithm)
            if not found and self._failing:
                raise KeysUnavailable
        return found

    async def newer(self, kid: str | None, algorithm: str) -> Sequence[VerifyingKey]:
        """Return them after a fetch, unless tokens asked for one a moment ago, or this one's key has its id."""
        if kid is not None and self._keys.knows(kid):
            return ()
        await self._another_fetch()
        return self._keys.find(kid, algorithm)

    async def _another_fetch(self) -> None:
        """Wait for the fetch under way, or for one of our own if it is time for that."""
        if not self._fetching:
            now = monotonic()
            if now - self._asked_at < self._ask_s_min:
                return
            self._asked_at = now
            self._fetching = True
            self._asked.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S_MAX):
                await self._fetch_ended.wait()

    async def _refresh_on(self) -> None:
        while True:
            pause_s = await self._refresh()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._asked.wait()
            self._asked.clear()

    async def _refresh(self) -> float:
        """Fetch once; return after how many seconds it is time again."""
        self._fetching = True
        try:
            document = await self._document()
            self._keys = read_keys(document.content, self._issuer.algorithms).instead_of(self._keys)
        except (FetchFailed, UnusableKeys, TimeoutError) as fault:
            self._failed(fault)
            return self._retry_s
        else:
            self._fetched_at, self._failing = monotonic(), False
            self._told(self._issuer.issuer, True)
            return self._kept_s(document.max_age_s)
        finally:
            self._fetching = False
            ended, self._fetch_ended = self._fetch_ended, asyncio.Event()
            ended.set()

    def _failed(self, fault: Exception) -> None:
        self._failing = True
        self._told(self._issuer.issuer, False)
        why = str(fault) or f"no answer in {FETCH_S_MAX:g} s"
        _log.warning("keys_not_fetched", extra={"issuer": self._issuer.issuer, "reason": why})
        if self._keys.keys and monotonic() - self._fetched_at > self._issuer.stale_s_max:
            self._keys = KeySet().instead_of(self._keys)
            _log.error("keys_stale", extra={"issuer": self._issuer.issuer})

    def _kept_s(self, max_age_s: int | None) -> float:
        if max_age_s is None:
            return self._issuer.refresh_s
        return min(max(max_age_s, MAX_AGE_S_MIN), MAX_AGE_S_MAX, self._issuer.stale_s_max)

    async def _document(self) -> Document:
        async with asyncio.timeout(FETCH_S_MAX):
            return await self._fetch(self._issuer.jwks_url or await self._discovered())

    async def _discovered(self) -> str:
        """Return where the issuer says its keys are; a document that speaks for another issuer says nothing."""
        about = (await self._fetch(self._issuer.issuer.rstrip("/") + _WELL_KNOWN)).content
        if about.get("issuer") != self._issuer.issuer:
            raise FetchFailed("the discovery document speaks for another issuer")
        try:
            return published_url(about.get("jwks_uri"), beside=self._issuer.issuer)
        except ValueError:
            raise FetchFailed("the discovery document names no usable jwks_uri") from None
