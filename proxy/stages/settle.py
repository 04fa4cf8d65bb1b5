"""The end of a reservation: post what was used and append its FINAL record, or give all of it back. Once, shielded."""

import logging
from types import TracebackType
from typing import Self

from engine.shielding import shielded
from engine.usage import Usage
from proxy.billing.record import CLIENT_CLOSED
from proxy.call import Call
from proxy.errors import LedgerUnavailable
from proxy.observe.metrics import Metrics
from proxy.store.reservations import Reservations
from proxy.tally import Tally

_log = logging.getLogger(__name__)


class Reservation:
    """
    What one exchange holds on the limits of its plan, from admit to settle.

    A store that does not answer now is no reason to break an answer: the failure is counted, the record stays in the
    log, and the reservation stays open with its last progress.
    """

    def __init__(self, store: Reservations, call: Call, tally: Tally, metrics: Metrics) -> None:
        self._store = store
        self._call = call
        self._tally = tally
        self._metrics = metrics
        self._open = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._tally.failed(error)
        if not self._open:
            return
        if self._tally.reached:
            await self.settle()
        else:
            self._open = False
            await shielded(self._release())

    def not_made(self) -> None:
        """Note that the limits refused: there is nothing to give back."""
        self._open = False

    async def settle(self) -> None:
        """Post the tally's usage and append the FINAL record; a second call does nothing."""
        if self._open:
            self._open = False
            await shielded(self._settle())

    async def _settle(self) -> None:
        tally = self._tally
        unobserved = tally.outcome == CLIENT_CLOSED and tally.usage == Usage()
        record = tally.record()
        try:
            settlement = await self._store.settle(record, self._call.plan.limits, unobserved=unobserved)
        except LedgerUnavailable:
            self._metrics.settle_failed()
            _log.exception("settle_failed", extra={"request_id": tally.request_id})
        else:
            tally.final = record if settlement.first else None

    async def _release(self) -> None:
        try:
            await self._store.release(self._tally.record(), self._call.plan.limits)
        except LedgerUnavailable:
            self._metrics.settle_failed()
            _log.exception("release_failed", extra={"request_id": self._tally.request_id})
