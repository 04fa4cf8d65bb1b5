"""
How this process takes another config, in three steps that a reload calls in order.

- `check` finds every fault and changes nothing.
- `bar` ends what is taken back, before anything else of the new config: whoever holds a token of a removed issuer,
  tenant or key is refused from now on, though a replica that is new may keep the rest waiting for a moment.
- `swap` puts the rest in force, in one step of the event loop.

Behind a check that found nothing no step fails: what was promised to an operator, and to the other workers, is kept. A
step without a check before it has nothing to do: a worker that is born during a reload has the config already.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from engine.fleet.fleet import Arrangement, Fleet, Placement
from proxy.catalog import Catalog
from proxy.compose.fleet import LaunchedFleet, Places, placements
from proxy.errors import LedgerUnavailable
from proxy.in_force import Config, InForce
from proxy.settings import Settings
from proxy.store.membership.incarnation import Incarnation

ENROL_S_MAX = 1.0
"""For new tenants to be entered in Redis before they are served; who is not by then is with its first request."""


@dataclass(slots=True)
class _Checked:
    """A config without a fault."""

    config: Config
    places: Places
    placements: Sequence[Placement]
    arrangement: Arrangement = ()
    """Its replicas, once they were looked at."""


@dataclass(slots=True)
class OwnConfig:
    """The config of the gateway that is this process."""

    in_force: InForce
    fleet: Fleet
    launched: LaunchedFleet
    incarnation: Incarnation
    _checked: _Checked | None = None

    async def check(self, settings: Settings) -> list[str]:
        """
        Make all of a config that can be made before it holds; return whose keys stand in a file that says another.

        Raises: ConfigError with every fault.
        """
        self._checked = None
        places = self.launched.places(settings)
        config = await asyncio.to_thread(self._made, settings)
        wanted = await asyncio.to_thread(placements, settings, places.urls)
        self._checked = _Checked(config, places, wanted)
        return config.verifier.rekeyed()

    async def bar(self) -> None:
        """End what the checked config takes back; then get ready for the rest of it."""
        checked = self._checked
        if checked is None:
            return
        config, enrolled = checked.config, self.in_force.now.catalog.tenants
        self.in_force.swap(self._barred(config))
        config.verifier.take_over()
        await self._enrol(tenant for tenant in config.catalog.tenants if tenant not in enrolled)
        checked.arrangement = await self.fleet.look(checked.placements)

    async def swap(self) -> None:
        """Put the rest in force."""
        checked, self._checked = self._checked, None
        if checked is not None:
            self.launched.begin(checked.places.new)
            self.fleet.arrange(checked.arrangement)
            self.in_force.swap(checked.config)

    async def _enrol(self, tenants: Iterable[str]) -> None:
        with suppress(LedgerUnavailable, TimeoutError):
            async with asyncio.timeout(ENROL_S_MAX):
                for tenant in tenants:
                    await self.incarnation.serve(tenant)

    def _made(self, settings: Settings) -> Config:
        catalog = Catalog.of(settings)
        return Config.of(settings, catalog, self.in_force.now.verifier.after(settings, catalog))

    def _barred(self, config: Config) -> Config:
        """Return the config that holds, without the issuers, tenants and keys that another has no longer."""
        now = self.in_force.now
        catalog = now.catalog.only(config.catalog.tenants)
        issuers = {name for name in now.verifier.issuers if name in config.verifier.issuers}
        return replace(now, catalog=catalog, verifier=config.verifier.only(issuers, catalog))
