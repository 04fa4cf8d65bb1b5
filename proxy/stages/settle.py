"""The end of a reservation: post what was used and append its FINAL record, or give all of it back. Once, shielded."""

from contextlib import suppress

from engine.runtime.shielding import shielded
from proxy.call import Call
from proxy.errors import JournalUnavailable
from proxy.store.outbox.end import Release, Settle
from proxy.store.outbox.outbox import Outbox
from proxy.tally import Tally


class Reservation:
    """
    What one exchange holds on the limits of its plan, from admit to settle.

    A store that does not answer now is no reason to break an answer: the end is on the gateway's own disk and owed
    (`proxy.store.outbox.outbox`), and the reservation stays open until it is taken.
    """

    def __init__(self, outbox: Outbox, call: Call, tally: Tally) -> None:
        self._outbox = outbox
        self._call = call
        self._tally = tally
        self._open = True

    async def end(self, error: BaseException | None) -> None:
        """Settle what a replica may have worked on, release what none did; `error` is what the exchange failed with."""
        if error is not None:
            self._tally.failed(error)
        if not self._open:
            return
        if self._tally.reached:
            # Owed in memory all the same; the client is told what ended the exchange, not that.
            with suppress(JournalUnavailable):
                await self.settle()
        else:
            self._open = False
            await shielded(self._outbox.release(self._released()))

    def not_made(self) -> None:
        """Note that the limits refused: there is nothing to give back."""
        self._open = False

    def unanswered(self) -> None:
        """Note that the store did not tell whether it was made: giving it back now would be waiting a second time."""
        self._open = False
        self._outbox.owe(self._released())

    async def settle(self) -> None:
        """
        Post the tally's usage and append the FINAL record; a second call does nothing.

        Raises: JournalUnavailable, when neither the disk nor Redis took it: then the answer must not end well.
        """
        if self._open:
            self._open = False
            await shielded(self._settle())

    async def _settle(self) -> None:
        tally = self._tally
        unobserved = tally.unobserved
        if unobserved:
            tally.wasted_unobserved()
        tally.final = tally.record()
        tally.billed = await self._outbox.settle(Settle(tally.final, self._call.plan.limits, unobserved))

    def _released(self) -> Release:
        return Release(self._tally.record(), self._call.plan.limits)
