"""
The ends of this gateway's reservations: settled or released now, or owed and sent again until the store takes them.

Rules:
- A settle is written to the gateway's own disk (`journal`) and to Redis side by side. It counts as ended with either of
  them: what only the disk has is sent again by `replay`, also by the next start.
- Where neither takes it, it is owed in memory, its client is told an error instead of the answer's end, and nobody is
  admitted until the disk can be written again.
- An end that the store did not answer is owed. It may have arrived all the same; sending it again changes nothing.
- A record is told to `billed` once, when it is known to be the exchange's own FINAL, however late the answer comes; a
  CORRECTION likewise to `corrected`.
- Releases are not written to the disk: a sweeper gives back what a dead gateway held. A Redis that was restarted may
  have lost the last of them, and nobody sweeps what a living gateway holds: so they are sent again.
- At most `OWED_MAX` settles that no disk has and as many releases are remembered, apart. One beyond is logged.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from engine.runtime.background import Background
from proxy.billing.record import ExchangeRecord
from proxy.errors import JournalUnavailable, LedgerUnavailable, is_told
from proxy.store.journal.group import Append
from proxy.store.journal.journal import Journal
from proxy.store.outbox.end import End, Release, Settle, written
from proxy.store.outbox.replay import LAST_TRY_S_MAX, RETRY_S, send
from proxy.store.reservations import Reservations, Settlement

OWED_MAX = 100_000
RELEASED_MAX = 4096
"""Releases that are remembered once taken: far more than a gateway makes in the second that Redis may lose, and in the
two until its restart is found out."""

_log = logging.getLogger(__name__)


class Outbox(Background):
    """
    End reservations: `async with Outbox(store, journal, billed=..., ...)` sends again what is owed in memory.

    `billed` is told each record whose settle was answered late, `corrected` each CORRECTION that a settle became;
    `failed` is called for each end that was not taken when it was first sent.
    Units: `retry_s` in seconds.
    """

    def __init__(
        self,
        store: Reservations,
        journal: Journal,
        *,
        billed: Callable[[ExchangeRecord], None],
        corrected: Callable[[ExchangeRecord], None],
        failed: Callable[[], None],
        retry_s: float = RETRY_S,
        owed_max: int = OWED_MAX,
    ) -> None:
        super().__init__(self._send_on, "tollway-owed")
        self._store = store
        self._journal = journal
        self._billed = billed
        self._corrected = corrected
        self._failed = failed
        self._retry_s = retry_s
        self._owed_max = owed_max
        self._unwritten: deque[Settle] = deque()
        self._releases: deque[Release] = deque()
        self._released: deque[Release] = deque(maxlen=RELEASED_MAX)
        """What Redis took last, and may lose."""

    def __len__(self) -> int:
        """Return how many ends are owed, on the disk and in memory."""
        return self._journal.owed + len(self._unwritten) + len(self._releases)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is owed in memory a last time. What is left then is logged and left to another's sweeper."""
        await super().__aexit__(kind, error, trace)
        try:
            async with asyncio.timeout(LAST_TRY_S_MAX):
                await self.send_owed()
        except (LedgerUnavailable, JournalUnavailable, TimeoutError) as fault:
            if not is_told(fault):
                _log.warning("owed_failed", exc_info=True)
        left: tuple[End, ...] = (*self._unwritten, *self._releases)
        for end in left:
            _lost(end)

    def check(self) -> None:
        """
        Refuse to begin what could not be billed if Redis failed too.

        Raises: JournalUnavailable.
        """
        if not self._journal.writable:
            raise JournalUnavailable

    async def settle(self, end: Settle) -> bool:
        """
        Settle now, or owe it; tell whether the ledger has answered that the record is the exchange's own FINAL.

        Raises: JournalUnavailable, when neither the disk nor Redis took it; it is owed in memory.
        """
        append = self._journal.append(written(end))
        try:
            settlement = await send(self._store, end)
        except Exception as fault:
            if not is_told(fault):
                _log.exception("settle_failed", extra={"request_id": end.record.request_id})
            self._failed()
            await self._owe(end, append)
            if isinstance(fault, LedgerUnavailable):
                return False
            raise
        self._tell(settlement)
        with suppress(JournalUnavailable):
            self._journal.settled(await append)
        return settlement.ours

    async def release(self, end: Release) -> None:
        """Release now, or owe it."""
        try:
            await self._store.release(end.record, end.limits)
        except LedgerUnavailable as fault:
            if not fault.told:
                _log.exception("release_failed", extra={"request_id": end.record.request_id})
            self._failed()
            self.owe(end)
        else:
            self._released.append(end)

    def restarted(self) -> None:
        """Note that Redis is another process than before: the last releases are owed again."""
        while self._released:
            self.owe(self._released.popleft())

    def owe(self, end: Release) -> None:
        """Release later, without trying now."""
        if len(self._releases) < self._owed_max:
            self._releases.append(end)
        else:
            _lost(end)

    async def send_owed(self) -> None:
        """
        Send what is owed in memory, the settles beside the releases, each up to the first that fails.

        Raises: LedgerUnavailable, JournalUnavailable.
        """
        sent = (self._send_releases(), self._send_unwritten())
        for fault in await asyncio.gather(*sent, return_exceptions=True):
            if fault is not None:
                raise fault

    async def _owe(self, end: Settle, append: Append) -> None:
        try:
            self._journal.owe(await append)
        except JournalUnavailable:
            if len(self._unwritten) < self._owed_max:
                self._unwritten.append(end)
            else:
                _lost(end)
            raise

    async def _send_releases(self) -> None:
        while self._releases:
            # It stays the first until it is answered, so that a cancellation meanwhile loses nothing.
            end = self._releases[0]
            try:
                await self._store.release(end.record, end.limits)
            except Exception:
                self._releases.rotate(-1)
                raise
            self._released.append(self._releases.popleft())

    async def _send_unwritten(self) -> None:
        while self._unwritten:
            try:
                await self._send_again(self._unwritten[0])
            except Exception:
                self._unwritten.rotate(-1)
                raise
            self._unwritten.popleft()

    async def _send_again(self, end: Settle) -> None:
        """Bring it to Redis or, at the least, to the disk."""
        append = self._journal.append(written(end))
        try:
            settlement = await send(self._store, end)
        except LedgerUnavailable:
            self._journal.owe(await append)
            return
        with suppress(JournalUnavailable):
            self._journal.settled(await append)
        if settlement.ours:
            self._billed(end.record)
        self._tell(settlement)

    def _tell(self, settlement: Settlement) -> None:
        if settlement.correction is not None:
            self._corrected(settlement.correction)

    async def _send_on(self) -> None:
        while True:
            await asyncio.sleep(self._retry_s)
            try:
                await self.send_owed()
            except (LedgerUnavailable, JournalUnavailable) as fault:
                if not is_told(fault):
                    _log.warning("owed_failed", exc_info=True)


def _lost(end: End) -> None:
    _log.error("end_lost", extra={"request_id": end.record.request_id})
