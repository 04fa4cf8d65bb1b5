"""
Sends again what is in the write-ahead log and not in Redis: what is owed, what a dead gateway left, what Redis lost.

Rules:
- Sending again changes nothing where Redis has it: the settle script remembers its ends for longer than `LATE_US`. What
  began before that, and is not known, goes to the ledger alone, which is searched for it first.
- A Redis that was restarted may have lost its last second, and one that was emptied everything. So a settled entry
  stays in the log for another `KEEP_S`, and all that is there is sent again when Redis turns out to be another process
  than before, or without the data that was there.
- A record is told to `billed` once, when it is known to be the exchange's own FINAL, and to `corrected` once, when it
  became a CORRECTION. Sending again what may be lost tells nobody: it was told when it was settled.
- What fails goes to the back: an entry that Redis never takes holds up no other. One that cannot be read stays in the
  log, and its file with it, until somebody looks.
"""

import asyncio
import logging
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from engine.runtime.background import Background
from proxy.billing.record import ExchangeRecord
from proxy.errors import LedgerUnavailable, is_told
from proxy.store.journal.group import Position
from proxy.store.journal.journal import Journal
from proxy.store.journal.segment import Segment
from proxy.store.outbox.end import Settle, read
from proxy.store.reservations import Reservations, Settlement

RETRY_S = 1.0
ADOPT_S = 10.0
"""Between two looks for what a dead gateway left."""
KEEP_S = 60.0
"""How long a settled entry is kept, should Redis lose it: far more than the second its append-only file may lack."""
LATE_US = 3600 * 1_000_000
BATCH = 64
"""Entries sent at once."""
START_S_MAX = 30.0
"""How long a start waits for what dead gateways left; the rest is sent while it serves."""
LAST_TRY_S_MAX = 5.0

Buried = Callable[[Sequence[str]], Awaitable[None]]
_Send = Callable[[Position, Settle], Awaitable[None]]

_log = logging.getLogger(__name__)


class Replay(Background):
    """
    `async with Replay(store, journal, beat, billed=..., corrected=...)` sends what is owed, until it is left.

    `buried` is told the incarnations that are dead for sure, once what they left on this disk was sent.
    `beat` asks Redis whether it is the same as before; if it is not, it calls `restarted` before it returns.
    Raises: LedgerUnavailable, from `beat`.
    Units: `retry_s`, `keep_s` in seconds.
    """

    def __init__(
        self,
        store: Reservations,
        journal: Journal,
        beat: Callable[[], Awaitable[None]],
        *,
        billed: Callable[[ExchangeRecord], None],
        corrected: Callable[[ExchangeRecord], None],
        buried: Buried | None = None,
        retry_s: float = RETRY_S,
        keep_s: float = KEEP_S,
    ) -> None:
        super().__init__(self._replay_on, "tollway-replay")
        self._store = store
        self._journal = journal
        self._beat = beat
        self._buried = buried
        self._dead: list[str] = []
        self._billed = billed
        self._corrected = corrected
        self._retry_s = retry_s
        self._keep_s = keep_s
        self._lost = False
        """Whether Redis may lack what is known to be settled, and the log has not been looked through for it."""
        self._rounds = 0

    async def __aenter__(self) -> Self:
        """Take over what dead gateways left and send it, before anybody bills it by less than that."""
        adopted = await self._journal.adopt()
        if adopted:
            _log.warning("journal_adopted", extra={"entries": adopted})
        await self._try(START_S_MAX)
        with suppress(LedgerUnavailable):
            await self.bury()
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is owed a last time. What is left then is on the disk, for the next start."""
        await super().__aexit__(kind, error, trace)
        await self._try(LAST_TRY_S_MAX)
        if self._journal.owed:
            _log.warning("owed_left", extra={"entries": self._journal.owed})

    def restarted(self) -> None:
        """Note that Redis is another process than before."""
        self._lost = True

    async def send_owed(self) -> None:
        """
        Send what is owed, oldest first, until Redis takes none of a batch.

        Raises: LedgerUnavailable.
        """
        self._rounds += 1
        for segment in self._in_turn():
            await self._send_each(segment, segment.owed, self._send)

    async def send_doubted(self) -> None:
        """
        Send everything that is in the log since before Redis was restarted, settled or not, and tell it to nobody.

        Raises: LedgerUnavailable, when Redis takes none of a batch; what it did not take is still to be sent.
        """
        if self._lost:
            await self._doubt_all()
        for segment in self._in_turn():
            if segment.doubted:
                await self._send_each(segment, segment.doubted, self._send_lost)
                segment.settled_at = time.monotonic()

    async def bury(self) -> None:
        """
        Tell who is dead for sure: those whose locks the kernel has given back.

        Raises: LedgerUnavailable; then it is told the next time.
        """
        self._dead += self._journal.orphaned()
        if self._dead:
            if self._buried is not None:
                await self._buried(self._dead)
            self._dead = []

    async def trim(self) -> None:
        """
        Delete what has been settled for long enough in a Redis that was the same all the time.

        Raises: LedgerUnavailable.
        """
        before = time.monotonic() - self._keep_s
        if any(not segment.unsettled and segment.settled_at < before for segment in self._journal.segments):
            await self._beat()
            if not self._lost:
                await self._journal.trim(before)

    async def _doubt_all(self) -> None:
        self._lost = False
        try:
            for segment in self._journal.segments:
                segment.doubted = array("Q", await self._journal.entries(segment))
        except BaseException:
            self._lost = True
            raise

    def _in_turn(self) -> tuple[Segment, ...]:
        """Return the segments, each round from another on, so that one that always fails is not before all others."""
        segments = self._journal.segments
        first = self._rounds % len(segments) if segments else 0
        return (*segments[first:], *segments[:first])

    async def _send_each(self, segment: Segment, starts: "array[int]", each: _Send) -> None:
        left = len(starts)
        while left > 0:
            places = starts[: min(left, BATCH)]
            left -= len(places)
            await self._send_batch(segment, places, each)

    async def _send_batch(self, segment: Segment, places: Iterable[int], each: _Send) -> None:
        outbox = await self._outbox(segment, places)
        sent = (each(Position(segment, start), end) for start, end in outbox)
        faults = [fault for fault in await asyncio.gather(*sent, return_exceptions=True) if fault is not None]
        if faults and len(faults) == len(outbox):
            raise faults[0]
        for fault in faults:
            if not is_told(fault):
                _log.warning("owed_failed", exc_info=fault)

    async def _outbox(self, segment: Segment, places: Iterable[int]) -> list[tuple[int, Settle]]:
        """Return the settles at these places. What cannot be read is not tried again, and never counts as settled."""
        starts = list(places)
        found = []
        for start, payload in zip(starts, await self._journal.read(segment, starts), strict=True):
            try:
                if payload is not None:
                    found.append((start, read(payload)))
                    continue
            except ValueError:
                _log.exception("settle_unreadable", extra={"path": str(segment.path), "place": start})
                self._journal.damaged()
            for waiting in (segment.owed, segment.doubted):
                if start in waiting:
                    waiting.remove(start)
        return found

    async def _send(self, place: Position, end: Settle) -> None:
        segment, start = place
        try:
            settlement = await send(self._store, end)
        except Exception:
            _to_the_back(segment.owed, start)
            raise
        # Without a wait in between: whoever is cancelled has done all of this or nothing.
        segment.owed.remove(start)
        self._journal.settled(place)
        if settlement.ours:
            self._billed(end.record)
        if settlement.correction is not None:
            self._corrected(settlement.correction)

    async def _send_lost(self, place: Position, end: Settle) -> None:
        segment, start = place
        try:
            await send(self._store, end)
        except Exception:
            _to_the_back(segment.doubted, start)
            raise
        segment.doubted.remove(start)

    async def _try(self, s_max: float) -> None:
        try:
            async with asyncio.timeout(s_max):
                await self.send_owed()
        except (LedgerUnavailable, TimeoutError) as fault:
            if not is_told(fault):
                _log.warning("owed_failed", exc_info=True)

    async def _replay_on(self) -> None:
        adopted_at = time.monotonic()
        while True:
            await asyncio.sleep(self._retry_s)
            if time.monotonic() - adopted_at > ADOPT_S:
                adopted_at = time.monotonic()
                await self._journal.adopt()
            # Each by itself: what one of them cannot get into Redis is no reason to keep the others' from it.
            for step in (self.send_doubted, self.send_owed, self.bury, self.trim):
                try:
                    await step()
                except (LedgerUnavailable, OSError) as fault:
                    if not is_told(fault):
                        _log.warning("replay_failed", exc_info=True)


def send(store: Reservations, end: Settle) -> Awaitable[Settlement]:
    """
    Settle, whether for the first time or again.

    An exchange that began long ago may have ended before, and that be forgotten: it was sent then, or its gateway stood
    still (a machine that was suspended) and it was swept.

    Raises: LedgerUnavailable.
    """
    if time.time_ns() // 1_000 - end.record.started_at > LATE_US:
        return store.append_late(end.record, end.limits, held=end.held, frees=end.frees)
    return store.settle(end.record, end.limits, held=end.held, frees=end.frees)


def _to_the_back(starts: "array[int]", start: int) -> None:
    starts.remove(start)
    starts.append(start)
