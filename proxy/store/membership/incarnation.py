"""
What one start of the gateway tells Redis of itself: that it lives, and which tenants it serves.

An incarnation beats every 2 s and is taken for dead 10 s after its last beat, by Redis' clock: its open reservations
are then SUSPECT. It may only be cut off, and serve still; so they are ended once its death is proven: by its own word
when it stops, by the kernel, which gave its lock on its log to another start on the same disk, or by an operator. One
that beats again lives on, and what was ended stays so.

A beat also learns which servers keep the data, by the id that each start of one has: a new one (started again, or
taking over after a failover) may have lost its last second, and who cares is told. So it is where the same one does not
know this gateway any more or has lost its data (FLUSHALL), whatever an operator decided meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.runtime.background import Background
from proxy.errors import LedgerUnavailable
from proxy.redis.client import RedisClient
from proxy.store import keys, scripts
from proxy.store.membership.generation import Generation
from proxy.ulids import new_ulid

BEAT_S = 2.0
READY_MS = 1_000
DEAD_AFTER_US = 10 * 1_000_000
FORGOTTEN_AFTER_US = 86_400 * 1_000_000
DEAD_MS = 31 * 86_400_000
"""How long a death is remembered: longer than a reservation may be open."""

_log = logging.getLogger(__name__)


class Incarnation(Background):
    """
    This process start: `async with Incarnation(connection) as incarnation` beats until it is left.

    `memory` is the file in which its Redis' data generation is remembered beyond this start.
    Raises: LedgerUnavailable, on entry only; a beat that fails later is logged and tried again.
    """

    def __init__(self, connection: RedisClient, *, beat_s: float = BEAT_S, memory: Path | None = None) -> None:
        super().__init__(self._beat_on, "tollway-heartbeat")
        self.id = new_ulid()
        self.generation = Generation(connection, memory)
        self._connection = connection
        self._beat_s = beat_s
        self._served: set[str] = set()
        self._servers: frozenset[str] = frozenset()
        self._losses = 0
        self._doubted = False
        """Whether Redis may have lost something, and nobody was told."""
        self._restarted: list[Callable[[], None]] = []

    def when_restarted(self, callback: Callable[[], None]) -> None:
        """
        Have `callback` called by the first beat after Redis may have lost something: it was started again, another took
        over, or it is without this gateway or the data that was there.

        It must not wait: a beat does not go on before it returns.
        """
        self._restarted.append(callback)

    async def __aenter__(self) -> Self:
        """Beat once, so that nothing this start reserves looks like a dead one's, and go on beating."""
        await self.beat()
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop beating. What is still open is left to the sweeper at once, not in 10 s."""
        await super().__aexit__(kind, error, trace)
        with suppress(LedgerUnavailable):
            await proven_dead(self._connection, [self.id])

    async def beat(self) -> None:
        """Say that this start lives. If Redis did not know it, it may know none of its tenants either."""
        answer = await self._connection.run(scripts.BEAT, [keys.INCARNATIONS], [self.id, FORGOTTEN_AFTER_US])
        if answer.split()[1] == "1":
            self._served.clear()
            if self._servers:
                self._doubted = True
                # Whoever said that it was dead was wrong.
                await self._connection.call("ZREM", keys.DEAD, self.id)
        await self._look_who_answers()
        await self.generation.confirm()
        self._connection.is_well()
        losses, self._losses = self._losses, self.generation.losses
        if self._doubted or losses != self._losses:
            self._doubted = False
            for callback in self._restarted:
                callback()

    async def can_write(self) -> None:
        """Do in Redis what a reserve and a settle do, and leave nothing. Raises: LedgerUnavailable."""
        await self._connection.run(scripts.READY, [f"{keys.READY}{self.id}"], [self.id, READY_MS])

    def serves(self, tenant: str) -> bool:
        """
        Tell whether a tenant was entered by `serve`.

        Raises: LedgerEmptied.
        """
        self.generation.check()
        return tenant in self._served

    async def serve(self, tenant: str) -> None:
        """
        Enter a tenant in the registry that the sweeper and the archiver walk; once for each start.

        Raises: LedgerEmptied, LedgerUnavailable.
        """
        if not self.serves(tenant):
            await self.generation.enrol(tenant)
            self._served.add(tenant)

    async def serve_again(self, tenant: str) -> None:
        """Enter a tenant anew whose data is not what this start remembers; raises as `serve`."""
        self._served.discard(tenant)
        await self.serve(tenant)

    async def _look_who_answers(self) -> None:
        servers = await self._connection.servers()
        before, self._servers = self._servers, servers
        if before and servers - before:
            _log.warning("redis_restarted")
            self._doubted = True

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            try:
                await self.beat()
            except LedgerUnavailable as fault:
                if not fault.told:
                    _log.warning("heartbeat_failed", exc_info=True)


async def proven_dead(connection: RedisClient, incarnations: Sequence[str]) -> None:
    """
    Tell every gateway that these serve nothing any more: what they left open is ended by the next sweep.

    Raises: LedgerUnavailable.
    """
    await connection.run(scripts.DEAD, [keys.DEAD], [DEAD_MS, *incarnations])
    await connection.call("ZREM", keys.INCARNATIONS, *incarnations)


async def dead(connection: RedisClient) -> frozenset[str]:
    """Return the incarnations that are proven dead."""
    return frozenset(await connection.call("ZRANGE", keys.DEAD, 0, -1))


async def living(connection: RedisClient) -> tuple[int, frozenset[str]]:
    """Return Redis' time in microseconds and the incarnations that live."""
    now, *ids = (await connection.run(scripts.LIVING, [keys.INCARNATIONS], [DEAD_AFTER_US])).split()
    return int(now), frozenset(ids)


async def tenants(connection: RedisClient) -> list[str]:
    """Return every tenant that ever reserved, in a stable order."""
    return sorted(await connection.call("SMEMBERS", keys.TENANTS))
