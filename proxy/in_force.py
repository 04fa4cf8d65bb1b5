"""
The config that holds now, in its one place.

Rules:
- Whoever serves a request reads `InForce.now` once, at its beginning, and goes by that `Config` to its end.
- A config never changes; a reload puts another in its place, in one step of the event loop.
- Who else needs to follow a reload, because it is no request's (the drain, what an edge waits), is told by `swap`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from proxy.catalog import Catalog
from proxy.identity.tokens import Verifier
from proxy.settings import Settings
from proxy.settings.sections import Bounds


@dataclass(frozen=True, slots=True)
class Config:
    """One config, ready to serve by. Replicas are not part of it: they are as they are, whoever asks for one."""

    settings: Settings
    catalog: Catalog
    verifier: Verifier
    bounds: Bounds

    @classmethod
    def of(cls, settings: Settings, catalog: Catalog, verifier: Verifier) -> Self:
        """Return the config of settings."""
        return cls(settings, catalog, verifier, settings.limits)


class InForce:
    """Where the config stands that holds."""

    def __init__(self, config: Config) -> None:
        self.now = config
        self._followers: list[Callable[[Config], None]] = []

    def follow(self, follower: Callable[[Config], None]) -> None:
        """Have `follower` told of the config that holds, now and after each swap; it must not fail."""
        follower(self.now)
        self._followers.append(follower)

    def swap(self, config: Config) -> None:
        """Put another config in the place of this one."""
        self.now = config
        for follower in self._followers:
            follower(config)
