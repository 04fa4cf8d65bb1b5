"""Whether the caller may: everything the request could use is reserved on every limit, or it is refused."""

import time
from types import TracebackType

from policies.quota import Refused, Repeated
from proxy.call import Call
from proxy.errors import IdempotencyKeyReused, InvalidRequest, LedgerUnavailable, refusal
from proxy.http.downstream import Downstream
from proxy.stages.progress import Followed, Progress
from proxy.stages.settle import Reservation
from proxy.stages.turn import HoldTimes
from proxy.store.outbox.outbox import Outbox
from proxy.store.reservations import Reservations
from proxy.tally import Tally

KEY_CHARACTERS_MAX = 255


def idempotency_key(downstream: Downstream) -> str | None:
    """Return the client's own key for its request, if it gives one; raise `InvalidRequest` for what is none."""
    key = downstream.header("idempotency-key")
    if key is not None and not (0 < len(key) <= KEY_CHARACTERS_MAX and key.isascii() and key.isprintable()):
        raise InvalidRequest(f"Idempotency-Key must be 1 to {KEY_CHARACTERS_MAX} printable ASCII characters.")
    return key


class Admit:
    """The stage that reserves."""

    def __init__(self, store: Reservations, outbox: Outbox, holds: HoldTimes, progress: Progress) -> None:
        self._store = store
        self._outbox = outbox
        self._holds = holds
        self._progress = progress

    def __call__(self, call: Call, tally: Tally) -> "Admission":
        """
        Hold a reservation for the block; raise `ApiError` with the refusing limit's own wait, or because what is used
        could not be written down.

        Leaving the block settles what a replica may have worked on and releases the rest, also when cancelled while
        the answer of the reserve itself is outstanding.
        """
        self._outbox.check()
        return Admission(self, call, Reservation(self._outbox, call, tally), self._progress.following(tally))

    async def reserve(self, call: Call, tally: Tally, reservation: Reservation) -> None:
        """Take what the call needs on every limit; raise `ApiError`."""
        ask = call.ask(self._holds.expected_us(call.model.name))
        tally.prompt_reserved = ask.prompt_tokens
        try:
            decision = await self._store.reserve(
                tally.record(), call.plan.limits, ask, price=call.price, once=tally.idempotency_key
            )
        except LedgerUnavailable:
            reservation.unanswered()
            raise
        if isinstance(decision, Repeated):
            reservation.not_made()
            raise IdempotencyKeyReused(decision.request_id)
        tally.statuses = decision.statuses
        if isinstance(decision, Refused):
            reservation.not_made()
            raise refusal(decision, ask.least(decision.limit.unit))
        tally.max_completion = decision.max_completion
        tally.clamped = decision.max_completion < ask.max_completion
        tally.watch.admitted = time.perf_counter()


class Admission:
    """The block in which one exchange is admitted."""

    __slots__ = ("_call", "_followed", "_reservation", "_stage")

    def __init__(self, stage: Admit, call: Call, reservation: Reservation, followed: Followed) -> None:
        self._stage = stage
        self._call = call
        self._reservation = reservation
        self._followed = followed

    async def __aenter__(self) -> Reservation:
        """Reserve."""
        self._followed.__enter__()
        try:
            await self._stage.reserve(self._call, self._followed.tally, self._reservation)
        except BaseException as fault:
            await self.__aexit__(type(fault), fault, fault.__traceback__)
            raise
        return self._reservation

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Settle or release what is still open."""
        try:
            await self._reservation.end(error)
        finally:
            self._followed.__exit__(kind, error, traceback)
