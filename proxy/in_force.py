"""
The config that holds now, in its one place.

Rules:
- Whoever serves a request reads `InForce.now` once, at its beginning, and goes by that `Config` to its end.
- A config never changes; another is put in its place, in one step of the event loop.
"""

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


@dataclass(slots=True)
class InForce:
    """Where the config stands that holds."""

    now: Config
