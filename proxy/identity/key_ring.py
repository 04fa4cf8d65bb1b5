"""
Where the keys of every issuer come from, from one config to the next.

Rules:
- An issuer of which nothing has changed keeps its source: its tokens need no second look.
- One of which anything has, its section or what stands in its file, has other keys: its tokens are verified anew.
- What an issuer publishes is fetched from when its config takes over (`hold`) until a token that waits for a fetch by
  the config before has had its time.
"""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Self

from proxy.identity.fetch import Fetcher
from proxy.identity.keys import FixedKey, KeySource, from_file
from proxy.identity.published import WAIT_S_MAX, PublishedKeys, Told
from proxy.settings import ConfigError, ConfigFault, Settings
from proxy.settings.sections import Issuer


class Held(NamedTuple):
    """One issuer of a config, and the source of its keys."""

    issuer: Issuer
    leeway_s: int
    source: KeySource


class KeyRing:
    """
    The sources of the config that holds: `async with KeyRing(told) as ring`.

    Keys from files need no block. `told` hears of every fetch of published keys.
    """

    def __init__(self, told: Told = lambda issuer, ok: None) -> None:
        self._told = told
        self._fetch = Fetcher()
        self._held: Mapping[str, Held] = {}
        self._open = False
        self._parting: dict[PublishedKeys, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        """Begin to fetch what issuers publish. Nobody waits for it: the gateway is ready without."""
        self._open = True
        for source in _published(self._held):
            source.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Fetch no more."""
        self._open = False
        for task in self._parting.values():
            task.cancel()
        await asyncio.gather(*self._parting.values(), return_exceptions=True)
        for source in {*_published(self._held), *self._parting}:
            await source.end()
        await self._fetch.aclose()

    def sources(self, settings: Settings) -> dict[str, Held]:
        """
        Return the sources of a config; nothing of what holds is changed. It reads files, and may be called in a thread.

        Raises: ConfigError with every key that cannot be used.
        """
        found: dict[str, Held] = {}
        faults: list[ConfigFault] = []
        for index, issuer in enumerate(settings.auth.issuers):
            try:
                found[issuer.issuer] = Held(issuer, settings.auth.leeway_s, self._source(settings, index))
            except ConfigError as error:
                faults += error.faults
        if faults:
            raise ConfigError(faults)
        return found

    def rekeyed(self, sources: Mapping[str, Held]) -> list[str]:
        """Return the issuers of which nothing else has changed than what stands in the file of their key."""
        return [
            name
            for name, held in sources.items()
            if name in self._held and held[:2] == self._held[name][:2] and held.source is not self._held[name].source
        ]

    def hold(self, sources: Mapping[str, Held]) -> None:
        """Let these be the sources of the config that holds."""
        before, now = set(_published(self._held)), set(_published(sources))
        self._held = sources
        if self._open:
            for source in now - before:
                source.begin()
            for source in before - now:
                self._parting[source] = asyncio.create_task(self._part(source), name="tollway-keys-parting")

    def _source(self, settings: Settings, index: int) -> KeySource:
        issuer = settings.auth.issuers[index]
        held = self._held.get(issuer.issuer)
        same = held is not None and (held.issuer, held.leeway_s) == (issuer, settings.auth.leeway_s)
        known = held.source if held else None
        if not issuer.publishes:
            read = from_file(settings, index)
            unchanged = same and isinstance(known, FixedKey) and known.only.identity == read.only.identity
            return known if unchanged and known else read
        if not isinstance(known, PublishedKeys):
            return PublishedKeys(issuer, self._fetch.prepared(), self._told)
        return known if same else known.heir(issuer)

    async def _part(self, source: PublishedKeys) -> None:
        await asyncio.sleep(WAIT_S_MAX)
        await source.end()
        del self._parting[source]


def _published(sources: Mapping[str, Held]) -> list[PublishedKeys]:
    return [held.source for held in sources.values() if isinstance(held.source, PublishedKeys)]
