"""The end of a reservation: post what was used and append its FINAL record, or give all of it back. Once, shielded."""

from contextlib import suppress
from types import TracebackType
from typing import Self

from engine.runtime.shielding import shielded
from policies.quota import Limit
from proxy.errors import IdempotencyKeyReused, JournalUnavailable, LedgerUnavailable, LimitRefused
from proxy.exchange_state import ExchangeState
from proxy.store.outbox.end import Release, Settle
from proxy.store.outbox.outbox import Outbox

_NOTHING_HELD = (LimitRefused, IdempotencyKeyReused, JournalUnavailable)
"""What a reserve that was answered, or never sent, fails with."""


class Reservation:
    """
    The block in which an exchange holds what its limits granted, from before the reserve is sent.

    Leaving the block settles what a replica may have worked on and releases the rest, also when cancelled while the
    answer of the reserve itself is outstanding. A store that does not answer now is no reason to break an answer: the
    end is on the gateway's own disk and in the outbox, and the reservation stays open until it is taken.
    """

    __slots__ = ("_limits", "_open", "_outbox", "_state")

    def __init__(self, outbox: Outbox, limits: tuple[Limit, ...], state: ExchangeState) -> None:
        self._outbox = outbox
        self._limits = limits
        self._state = state
        self._open = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Settle or release what is still open; `error` is what the exchange failed with."""
        state = self._state
        if error is not None:
            state.failed(error)
        if not self._open:
            return
        if state.reached:
            # Owed in memory all the same; the client is told what ended the exchange, not that.
            with suppress(JournalUnavailable):
                await self.settle()
            return
        self._open = False
        if state.admitted is None and isinstance(error, _NOTHING_HELD):
            return
        release = Release(state.record(), self._limits)
        if state.admitted is None and isinstance(error, LedgerUnavailable):
            # Nobody knows whether it was made; to give it back now would be to wait a second time.
            self._outbox.owe(release)
        else:
            await shielded(self._outbox.release(release))

    async def settle(self) -> None:
        """
        Post the exchange's usage and append the FINAL record; a second call does nothing.

        Raises: JournalUnavailable, when neither the disk nor Redis took it: then the answer must not end well.
        """
        if self._open:
            self._open = False
            await shielded(self._settle())

    async def _settle(self) -> None:
        state = self._state
        state.final = final = state.record()
        # What the quota keeps is among what is wasted.
        held = state.held_tokens if final.wasted_tokens else 0
        end = Settle(final, self._limits, held, frees=state.came_to_nothing)
        state.billed = await self._outbox.settle(end)
