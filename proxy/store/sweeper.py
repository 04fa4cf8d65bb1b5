"""
The sweeper ends what a dead gateway left open, from the last progress it noted.

Rules:
- It walks the indexes of each tenant's open reservations, never the keyspace.
- Silent is who has not beaten for 10 s; a reservation younger than that is left alone, whoever made it.
- Who is silent may serve still, cut off from Redis: what it left open becomes SUSPECT. Places in flight and rates come
  back, windows keep all of it. It is ended once its gateway is proven dead, or once its exchange is over by its own
  deadline and nobody has told its end; what the dead left is ended when it is found. What belongs to somebody who beats
  again is left to it.
- After a start, and after Redis was away, everybody has a period's time to beat before anybody is swept: nobody beats
  into a Redis that is stopped.
- Who is itself taken for dead was paused, perhaps with all others: it judges nobody before it has beaten again. Who
  lives is looked up anew in a sweep that takes long, or was paused.
- One gateway of the fleet sweeps in each period. Two at once would do no harm: the first end wins.
- What cannot be read, as of a newer version, is told and left to a gateway that can.
- Where no usage was noted the bill takes nothing, and the quota keeps the whole reservation.

Decision: the sweeper builds the FINAL record here, from the draft on the reservation, and passes it to the settle
script. Because its charge must be stamped, by the price that the reservation keeps, and Python does so; instead of a
second settle in Lua.

Decision: a deadline that is over ends a suspect as a death does, 30 s later. Because its exchange runs no more, and a
gateway whose machine is gone with its disk must not hold a month's window; instead of holding it until somebody looks.
A gateway that stays cut off for longer, and then tells of more than its last progress, may take a window over its
amount by what it held: that was given to others meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from engine.runtime.background import Background
from policies.quota import WHOLE
from proxy.billing.charging import charged
from proxy.billing.record import GATEWAY_LOST, ExchangeRecord, Source
from proxy.errors import LedgerUnavailable
from proxy.redis.client import RedisClient
from proxy.store import keys, suspects
from proxy.store.membership.incarnation import BEAT_S, DEAD_AFTER_US, dead, living, tenants
from proxy.store.open_reservation import OpenReservation
from proxy.store.outbox.end import Settle
from proxy.store.redis_reservations import RedisReservations

SWEEP_S = 5.0
BATCH = 1000
_ENDED = ("SETTLED ", "RELEASED ", "EXPIRED ")

_FOR_EVER = "+inf"

_log = logging.getLogger(__name__)


class _Lives(NamedTuple):
    """Who lives, and who does not for sure, at one moment."""

    now_us: int
    alive: frozenset[str]
    dead: frozenset[str]
    at: float
    """In seconds of the monotonic clock."""


class Sweeper(Background):
    """
    Sweep every `sweep_s` seconds, first after that time: `async with Sweeper(connection, reservations)`.

    Enter it after whatever knows more of a dead gateway's exchanges than its last progress has been settled.

    `ended` is told each record that this gateway appended, `suspect` what the last sweep of all found to be SUSPECT.
    """

    def __init__(
        self,
        connection: RedisClient,
        reservations: RedisReservations,
        *,
        ended: Callable[[ExchangeRecord], None] = lambda record: None,
        suspect: Callable[[suspects.HeldInSilence], None] = lambda held: None,
        sweep_s: float = SWEEP_S,
    ) -> None:
        super().__init__(self._sweep_on, "tollway-sweeper")
        self._connection = connection
        self._reservations = reservations
        self._ended = ended
        self._suspect = suspect
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
        lives = await self._look()
        if self._reservations.incarnation not in lives.alive:
            return ended
        found = suspects.HeldInSilence()
        for tenant in await tenants(self._connection):
            ended += await self._sweep_open(tenant, lives) + await self._sweep_suspect(tenant, lives)
            held = await suspects.held(self._connection, tenant)
            found = suspects.HeldInSilence(*map(sum, zip(found, held, strict=True)))
        await suspects.tell(self._connection, found)
        return ended

    async def _look(self) -> _Lives:
        at, (now_us, alive) = monotonic(), await living(self._connection)
        return _Lives(now_us, alive, await dead(self._connection), at)

    async def _sweep_open(self, tenant: str, lives: _Lives) -> int:
        """End what the dead have open, and suspect what the silent have; return how many were ended."""
        ended = 0
        for member in await self._members(keys.open_index(tenant), lives.now_us - DEAD_AFTER_US):
            incarnation, request_id = keys.read_open_member(member)
            lives = await self._up_to_date(lives)
            if incarnation in lives.alive:
                continue
            known = await self._read(tenant, member, request_id)
            if known is None:
                continue
            if incarnation in lives.dead:
                ended += await self._expire(known, lives.now_us)
            else:
                await self._reservations.suspect(known.record, known.limits, held=_unknown(known))
        return ended

    async def _sweep_suspect(self, tenant: str, lives: _Lives) -> int:
        """End what is suspect of the dead, and what is over by its own deadline; return how many."""
        index = keys.suspect_index(tenant)
        if not await self._connection.call("EXISTS", index):
            return 0
        over, ended = set(await self._members(index, lives.now_us)), 0
        for member in await self._members(index, _FOR_EVER):
            incarnation, request_id = keys.read_open_member(member)
            lives = await self._up_to_date(lives)
            if incarnation not in lives.alive and (member in over or incarnation in lives.dead):
                known = await self._read(tenant, member, request_id)
                ended += known is not None and await self._expire(known, lives.now_us)
        return ended

    async def _up_to_date(self, lives: _Lives) -> _Lives:
        """Return who lives now, where that may have changed; raise LedgerUnavailable for who does not itself."""
        if monotonic() - lives.at < BEAT_S:
            return lives
        now = await self._look()
        if self._reservations.incarnation not in now.alive:
            raise LedgerUnavailable
        return now

    async def _members(self, index: str, until_us: int | str) -> list[str]:
        """Return what an index has up to `until_us`."""
        members: list[str] = []
        while page := await self._connection.call("ZRANGEBYSCORE", index, 0, until_us, "LIMIT", len(members), BATCH):
            members += page
        return members

    async def _read(self, tenant: str, member: str, request_id: str) -> OpenReservation | None:
        """Return what is open; None for what is not, which leaves the indexes, and for what cannot be read."""
        found = await self._connection.call("GET", keys.reservation(tenant, request_id)) or ""
        if not found or found.startswith(_ENDED):
            for index in (keys.open_index(tenant), keys.suspect_index(tenant)):
                await self._connection.call("ZREM", index, member)
            return None
        try:
            return OpenReservation.read(found)
        except ValueError:
            _log.exception("draft_unreadable", extra={"request_id": request_id})
            return None

    async def _expire(self, known: OpenReservation, now_us: int) -> bool:
        lost = known.record._replace(source=Source.RECOVERED, outcome=GATEWAY_LOST, finished_at=now_us)
        return await self._end(Settle(charged(lost, known.price), known.limits, held=_unknown(known)))

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
                self._suspect(await suspects.told(self._connection))
            except LedgerUnavailable as fault:
                was_away = True
                if not fault.told:
                    _log.warning("sweep_failed", exc_info=True)
            await asyncio.sleep(self._sweep_s)

    async def _is_my_turn(self) -> bool:
        turn_ms = max(1, int(self._sweep_s * 900))
        return bool(await self._connection.call("SET", keys.SWEEP, "1", "NX", "PX", turn_ms))


def _unknown(known: OpenReservation) -> int:
    """Return how many tokens may have been used beyond those that are known."""
    return 0 if known.observed else WHOLE
