"""
The sweeper ends what a dead gateway left open, from the last progress it noted.

Rules:
- It walks the index of each tenant's open reservations, never the keyspace.
- Dead is who has not beaten for 10 s; a reservation younger than that is left alone, whoever made it.
- After a start, and after Redis was away, everybody has a period's time to beat before anybody is swept: nobody beats
  into a Redis that is stopped.
- Who is itself taken for dead was paused, perhaps with all others: it judges nobody before it has beaten again.
- One gateway of the fleet sweeps in each period. Two at once would do no harm: the first end wins.
- What cannot be read, as of a newer version, is told and left to a gateway that can.
- Where no usage was noted the bill takes nothing, and the quota keeps the whole reservation.

Decision: the sweeper builds the FINAL record here, from the draft on the reservation, and passes it to the settle
script. Because its charge must be stamped, by the price that the reservation keeps, and Python does so; instead of a
second settle in Lua.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from engine.runtime.background import Background
from policies.quota import WHOLE
from proxy.billing.charging import charged
from proxy.billing.record import GATEWAY_LOST, ExchangeRecord, Source
from proxy.errors import LedgerUnavailable
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.membership.incarnation import DEAD_AFTER_US, living, tenants
from proxy.store.open_reservation import OpenReservation
from proxy.store.outbox.end import Settle
from proxy.store.redis_reservations import RedisReservations

SWEEP_S = 5.0
BATCH = 1000
_ENDED = ("SETTLED ", "RELEASED ", "EXPIRED ")

_log = logging.getLogger(__name__)


class Sweeper(Background):
    """
    Sweep every `sweep_s` seconds, first after that time: `async with Sweeper(connection, reservations)`.

    Enter it after whatever knows more of a dead gateway's exchanges than its last progress has been settled.

    `ended` is told each record that this gateway appended.
    """

    def __init__(
        self,
        connection: RedisClient,
        reservations: RedisReservations,
        *,
        ended: Callable[[ExchangeRecord], None] = lambda record: None,
        sweep_s: float = SWEEP_S,
    ) -> None:
        super().__init__(self._sweep_on, "tollway-sweeper")
        self._connection = connection
        self._reservations = reservations
        self._ended = ended
        self._sweep_s = sweep_s
        self._unanswered: Settle | None = None
        """What Redis may have ended without an answer: then it is in no index any more, and told to nobody."""

    async def sweep(self) -> int:
        """
        End every open reservation of a dead incarnation; return how many there were.

        Raises: LedgerUnavailable.
        """
        ended = 0
        if self._unanswered is not None:
            with suppress(LedgerUnavailable):
                ended += await self._end(self._unanswered)
        now_us, alive = await living(self._connection)
        if self._reservations.incarnation not in alive:
            return ended
        for tenant in await tenants(self._connection):
            async for incarnation, request_id in self._open(tenant, now_us - DEAD_AFTER_US):
                if incarnation not in alive:
                    ended += await self._expire(tenant, incarnation, request_id, now_us)
        return ended

    async def _open(self, tenant: str, until_us: int) -> AsyncIterator[tuple[str, str]]:
        """Yield (incarnation, request id) of what a tenant had open before `until_us`."""
        offset = 0
        index = keys.open_index(tenant)
        members: list[str] = []
        while page := await self._connection.call("ZRANGEBYSCORE", index, 0, until_us, "LIMIT", offset, BATCH):
            members += page
            offset += BATCH
        for member in members:
            yield keys.read_open_member(member)

    async def _expire(self, tenant: str, incarnation: str, request_id: str, now_us: int) -> bool:
        found = await self._connection.call("GET", keys.reservation(tenant, request_id)) or ""
        if not found or found.startswith(_ENDED):
            await self._connection.call("ZREM", keys.open_index(tenant), keys.open_member(incarnation, request_id))
            return False
        try:
            known = OpenReservation.read(found)
        except ValueError:
            _log.exception("draft_unreadable", extra={"request_id": request_id})
            return False
        lost = known.record._replace(source=Source.RECOVERED, outcome=GATEWAY_LOST, finished_at=now_us)
        return await self._end(Settle(charged(lost, known.price), known.limits, held=0 if known.observed else WHOLE))

    async def _end(self, end: Settle) -> bool:
        self._unanswered = end
        settlement = await self._reservations.expire(end.record, end.limits, held=end.held)
        self._unanswered = None
        if settlement.ours:
            self._ended(end.record)
        return settlement.ours

    async def _sweep_on(self) -> None:
        was_away = True
        while True:
            try:
                if await self._is_my_turn() and not was_away:
                    await self.sweep()
                was_away = False
            except LedgerUnavailable:
                was_away = True
                _log.warning("sweep_failed", exc_info=True)
            await asyncio.sleep(self._sweep_s)

    async def _is_my_turn(self) -> bool:
        turn_ms = max(1, int(self._sweep_s * 900))
        return bool(await self._connection.call("SET", keys.SWEEP, "1", "NX", "PX", turn_ms))
