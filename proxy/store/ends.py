"""
The ends of this gateway's reservations: settled or released now, or owed and sent again until the store takes them.

Rules:
- An end that the store did not answer is owed. It may have arrived all the same; sending it again changes nothing.
- A record is told to `billed` once, when it is known to be the exchange's own FINAL, however late the answer comes.
- What is owed is sent in order, each second. What fails again goes to the back: an end that Redis never takes holds up
  no other.
- At most `OWED_MAX` settles and as many releases are remembered, apart: an outage makes a release of every request
  that it refuses, and none of these may push out a bill. One beyond is logged; a sweeper ends it from its last
  progress, once this gateway has ended.

What is owed lives in memory only: if this gateway is killed, its last progress is billed. The two lines are the place
of a write-ahead log.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from engine.background import Background
from policies.quota import Limit
from proxy.billing.record import ExchangeRecord
from proxy.errors import LedgerUnavailable
from proxy.store.reservations import Reservations

OWED_MAX = 100_000
RETRY_S = 1.0
LAST_TRY_S_MAX = 5.0
"""How long leaving may take to send what is still owed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settle:
    """The end of an exchange that a replica may have worked on; `record` is its FINAL."""

    record: ExchangeRecord
    limits: tuple[Limit, ...]
    unobserved: bool


@dataclass(frozen=True, slots=True)
class Release:
    """The end of an exchange that no replica saw."""

    record: ExchangeRecord
    limits: tuple[Limit, ...]


End = Settle | Release


class Ends(Background):
    """
    End reservations: `async with Ends(store, billed=..., failed=...)` sends again what is owed, until it is left.

    `billed` is told each record whose settle was answered late; `failed` is called for each end that was not taken when
    it was first sent.
    Units: `retry_s` in seconds.
    """

    def __init__(
        self,
        store: Reservations,
        *,
        billed: Callable[[ExchangeRecord], None],
        failed: Callable[[], None],
        retry_s: float = RETRY_S,
        owed_max: int = OWED_MAX,
    ) -> None:
        super().__init__(self._send_on, "tollway-owed")
        self._store = store
        self._billed = billed
        self._failed = failed
        self._retry_s = retry_s
        self._owed_max = owed_max
        self._settles: deque[End] = deque()
        self._releases: deque[End] = deque()

    def __len__(self) -> int:
        """Return how many ends are owed."""
        return len(self._settles) + len(self._releases)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is owed a last time. What is left then is logged and left to another gateway's sweeper."""
        await super().__aexit__(kind, error, trace)
        try:
            async with asyncio.timeout(LAST_TRY_S_MAX):
                await self.send_owed()
        except (LedgerUnavailable, TimeoutError):
            _log.warning("owed_failed", exc_info=True)
        for end in (*self._settles, *self._releases):
            _lost(end)

    async def settle(self, end: Settle) -> bool:
        """Settle now, or owe it; tell whether the ledger has answered that the record is the exchange's own FINAL."""
        try:
            return await self._settle(end)
        except LedgerUnavailable:
            _log.exception("settle_failed", extra={"request_id": end.record.request_id})
            self._failed()
            self.owe(end)
            return False

    async def release(self, end: Release) -> None:
        """Release now, or owe it."""
        try:
            await self._store.release(end.record, end.limits)
        except LedgerUnavailable:
            _log.exception("release_failed", extra={"request_id": end.record.request_id})
            self._failed()
            self.owe(end)

    def owe(self, end: End) -> None:
        """Send it later, without trying now."""
        line = self._settles if isinstance(end, Settle) else self._releases
        if len(line) < self._owed_max:
            line.append(end)
        else:
            _lost(end)

    async def send_owed(self) -> None:
        """
        Send what is owed, the settles beside the releases, each up to the first that fails.

        Raises: LedgerUnavailable.
        """
        lines = (self._settles, self._releases)
        for fault in await asyncio.gather(*map(self._send, lines), return_exceptions=True):
            if fault is not None:
                raise fault

    async def _send(self, line: deque[End]) -> None:
        while line:
            # It stays the first until it is answered, so that a cancellation meanwhile loses nothing.
            try:
                await self._send_again(line[0])
            except Exception:
                line.rotate(-1)
                raise
            line.popleft()

    async def _send_again(self, end: End) -> None:
        if isinstance(end, Release):
            await self._store.release(end.record, end.limits)
        elif await self._settle(end):
            self._billed(end.record)

    async def _settle(self, end: Settle) -> bool:
        return (await self._store.settle(end.record, end.limits, unobserved=end.unobserved)).ours

    async def _send_on(self) -> None:
        while True:
            await asyncio.sleep(self._retry_s)
            try:
                await self.send_owed()
            except LedgerUnavailable:
                _log.warning("owed_failed", exc_info=True)


def _lost(end: End) -> None:
    _log.error("end_lost", extra={"request_id": end.record.request_id})
