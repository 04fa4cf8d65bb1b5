"""Whether the caller may: everything the request could use is reserved on every limit, or it is refused."""

import time

from policies.estimate import HoldTimes
from policies.quota import Refused, Repeated
from proxy.admitted import Admitted
from proxy.billing.record import ExchangeRecord
from proxy.call import Call
from proxy.errors import IdempotencyKeyReused, refusal
from proxy.store.outbox.outbox import Outbox
from proxy.store.reservations import Reservations


class Admit:
    """The stage that reserves."""

    def __init__(self, store: Reservations, outbox: Outbox, holds: HoldTimes) -> None:
        self._store = store
        self._outbox = outbox
        self._holds = holds

    async def __call__(self, call: Call, draft: ExchangeRecord, key: str | None) -> Admitted:
        """
        Reserve what the call needs on every limit.

        `draft` is its record as far as it is known, `key` the client's own for it.

        Raises: LimitRefused with the refusing limit's own wait, IdempotencyKeyReused, JournalUnavailable because what
        is used could not be written down: then nothing is held. LedgerUnavailable, or a cancellation, when the store
        did not tell: the reserve may have been made, or may yet be.
        """
        self._outbox.check()
        ask = call.ask(self._holds.expected_us(call.model.name))
        decision = await self._store.reserve(
            draft, call.plan.limits, ask, price=call.price, once=key, lasts_s=call.bounds.exchange_s_max
        )
        if isinstance(decision, Repeated):
            raise IdempotencyKeyReused(decision.request_id)
        if isinstance(decision, Refused):
            raise refusal(decision, ask.least(decision.limit.unit))
        return Admitted(call, ask, decision.max_completion, decision.statuses, time.perf_counter())
