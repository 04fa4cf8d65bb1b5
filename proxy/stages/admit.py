"""Whether the caller may: everything the request could use is reserved on every limit, or it is refused."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from policies.quota import Refused
from proxy.call import Call
from proxy.errors import refusal
from proxy.observe.metrics import Metrics
from proxy.stages.progress import Progress
from proxy.stages.settle import Reservation
from proxy.stages.turn import Holds
from proxy.store.reservations import Reservations
from proxy.tally import Tally


class Admit:
    """The stage that reserves."""

    def __init__(self, store: Reservations, holds: Holds, progress: Progress, metrics: Metrics) -> None:
        self._store = store
        self._holds = holds
        self._progress = progress
        self._metrics = metrics

    @asynccontextmanager
    async def __call__(self, call: Call, tally: Tally) -> AsyncIterator[Reservation]:
        """
        Hold a reservation for the block; raise `ApiError` with the refusing limit's own wait.

        Leaving the block settles what a replica may have worked on and releases the rest, also when cancelled while
        the answer of the reserve itself is outstanding.
        """
        ask = call.ask(self._holds.expected_us(call.model.name))
        async with Reservation(self._store, call, tally, self._metrics) as reservation:
            decision = await self._store.reserve(tally.record(), call.plan.limits, ask)
            tally.standings = decision.standings
            if isinstance(decision, Refused):
                reservation.not_made()
                raise refusal(decision)
            tally.max_completion = decision.max_completion
            tally.clamped = decision.max_completion < ask.max_completion
            tally.watch.admitted = time.perf_counter()
            with self._progress.following(tally):
                yield reservation
