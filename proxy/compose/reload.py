"""
A reload: the config read again and put in force, whole or not at all.

Rules:
- One at a time; who asks meanwhile has the next, which reads again.
- A fault changes nothing, and all faults are told. What needs a restart is told too, and left as it is: sections that a
  start is made of, and another secret in a file that only a start reads.
- Once nothing is found the reload is carried out to its end, whoever is cancelled.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, Protocol

from engine.runtime.shielding import shielded
from proxy.fatal import Fatal
from proxy.observe.metrics import Metrics
from proxy.settings import ConfigError, ConfigFault, Settings
from proxy.settings.difference import Change, ChangeKind
from proxy.settings.faults import dotted
from proxy.settings.reloading import RELOADED, Reloadable, reloadable

_log = logging.getLogger(__name__)


class ConfigSource(NamedTuple):
    """A config, where it is read again, and who asks for that."""

    settings: Settings
    """As it was read at the start."""
    read: Callable[[], Settings]
    """Reads it again; raises ConfigError."""
    asked: asyncio.Event
    """Set by SIGHUP."""


class Taker(Protocol):
    """Who takes a config: this process's gateway, or all workers. The steps are those of `own_config.py`."""

    async def check(self, settings: Settings) -> list[str]:
        """Find every fault; return whose keys stand in a file that says another. Raises: Fatal."""

    async def bar(self) -> None:
        """End what is taken back."""

    async def swap(self) -> None:
        """Put the rest in force."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Another config holds."""

    changed: tuple[Change, ...]
    needs_restart: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class NotReloaded:
    """The config that held holds on."""

    faults: tuple[ConfigFault, ...]


class Reload:
    """Reads a source's config again, as often as it is called or the source is `asked`."""

    def __init__(self, source: ConfigSource, taker: Taker, metrics: Metrics) -> None:
        self._source = source
        self._settings = source.settings
        """What holds, as a file says it."""
        self._secrets = _secrets(source.settings)
        self._taker = taker
        self._metrics = metrics
        self._one_at_a_time = asyncio.Lock()
        metrics.config_loaded()

    async def __call__(self) -> Reloaded | NotReloaded:
        """Read the config again, and put it in force if it has no fault."""
        async with self._one_at_a_time:
            try:
                outcome = await self._reload()
            except ConfigError as error:
                outcome = self._refused(error.faults)
            except Fatal as error:
                outcome = self._refused([ConfigFault("", str(error))])
        return outcome

    async def whenever_asked(self) -> None:
        """Reload each time that the source is asked for it; what comes of it is in the log."""
        asked = self._source.asked
        while True:
            await asked.wait()
            asked.clear()
            await self()

    async def _reload(self) -> Reloaded | NotReloaded:
        plan = await asyncio.to_thread(self._planned)
        rekeyed = await self._taker.check(plan.settings)
        await shielded(self._carry_out(plan.settings))
        keys = [Change(ChangeKind.CHANGED, dotted(["auth", "issuers", name, "key_file"])) for name in rekeyed]
        outcome = Reloaded((*plan.changed, *keys), plan.needs_restart)
        _log.info(
            "config_reloaded",
            extra={"changed": [*map(str, outcome.changed)], "needs_restart": [*map(str, outcome.needs_restart)]},
        )
        self._metrics.config_reloaded(ok=True)
        return outcome

    def _planned(self) -> Reloadable:
        """Read the config and its secrets; a large one takes a while."""
        plan = reloadable(self._settings, self._source.read())
        now = _secrets(plan.settings)
        others = [Change(ChangeKind.CHANGED, path) for path in now if now[path] != self._secrets.get(path)]
        return plan._replace(needs_restart=(*plan.needs_restart, *others))

    async def _carry_out(self, settings: Settings) -> None:
        await self._taker.bar()
        await self._taker.swap()
        self._settings = settings
        self._metrics.config_loaded()

    def _refused(self, faults: Sequence[ConfigFault]) -> NotReloaded:
        _log.error("config_not_reloaded", extra={"faults": [*map(str, faults)]})
        self._metrics.config_reloaded(ok=False)
        return NotReloaded(tuple(faults))


def _secrets(settings: Settings) -> dict[str, bytes]:
    """Return what the files that only a start reads hold, as digests, by the fields that name them."""
    found: dict[str, bytes] = {}
    for name in Settings.model_fields.keys() - RELOADED:
        for field, value in getattr(settings, name):
            if field.endswith("_file") and value is not None:
                with suppress(OSError):
                    found[dotted([name, field])] = sha256(value.read_bytes()).digest()
    return found
