"""What a candidate uses while a load is on it."""

import asyncio
from dataclasses import dataclass
from time import monotonic

from tests.bench.machine import Process, family, is_redis, megabytes, processes

LAST_LOOK_S = 0.1
"""Before the load ends: afterwards there is nothing to see."""


@dataclass(frozen=True, slots=True)
class Usage:
    """
    What was used between two looks.

    Units: CPU in microseconds a second, so 1e6 is a core; memory in MB, Redis apart.
    """

    cpu_us_per_s: float
    redis_us_per_s: float
    memory_mb: float


@dataclass(frozen=True, slots=True)
class Look:
    """A candidate's processes at one moment."""

    at_s: float
    own: tuple[Process, ...]
    redis: tuple[Process, ...]

    def until(self, later: "Look") -> Usage:
        """Return what was used from this look to a later one."""
        elapsed_s = later.at_s - self.at_s
        return Usage(
            cpu_us_per_s=1e6 * (_cpu_s(later.own) - _cpu_s(self.own)) / elapsed_s,
            redis_us_per_s=1e6 * (_cpu_s(later.redis) - _cpu_s(self.redis)) / elapsed_s,
            memory_mb=megabytes(later.own),
        )


def look(pid: int | None) -> Look:
    """Look at a process and all that descend from it; at nothing for None."""
    members = family(processes(), pid) if pid else []
    return Look(
        monotonic(),
        tuple(process for process in members if not is_redis(process)),
        tuple(process for process in members if is_redis(process)),
    )


async def watched(pid: int | None, *, after_s: float, for_s: float) -> Usage:
    """Return what is used in the `for_s` seconds that begin `after_s` from now."""
    await asyncio.sleep(after_s)
    before = look(pid)
    await asyncio.sleep(for_s - LAST_LOOK_S)
    return before.until(look(pid))


def _cpu_s(some: tuple[Process, ...]) -> float:
    return sum(process.cpu_s for process in some)
