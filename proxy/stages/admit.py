"""Whether the caller may: everything the request could use is reserved on every limit, or it is refused."""

import time

from policies.estimate import HoldTimes
from policies.quota import Refused, Repeated
from proxy.admitted import Admitted
from proxy.billing.record import ExchangeRecord
from proxy.call import Call
from proxy.errors import IdempotencyKeyReused, InvalidRequest, refusal
from proxy.http.downstream import Downstream
from proxy.store.outbox.outbox import Outbox
from proxy.store.reservations import Reservations

KEY_CHARACTERS_MAX = 255
CLIENT_REQUEST_ID_CHARACTERS_MAX = 512
"""As OpenAI's."""


def idempotency_key(downstream: Downstream) -> str | None:
    """Return the client's own key for its request, if it gives one; raise `InvalidRequest` for what is none."""
    key = downstream.header(b"idempotency-key")
    if key is not None:
        _check("Idempotency-Key", key, KEY_CHARACTERS_MAX)
    return key


def client_request_id(downstream: Downstream) -> str:
    """Return the client's own name for its request, "" where it gives none; raise `InvalidRequest` for what is none."""
    name = downstream.header(b"x-client-request-id")
    if name is None:
        return ""
    _check("X-Client-Request-Id", name, CLIENT_REQUEST_ID_CHARACTERS_MAX)
    return name


def _check(header: str, value: str, characters_max: int) -> None:
    if not (0 < len(value) <= characters_max and value.isascii() and value.isprintable()):
        raise InvalidRequest(f"{header} must be 1 to {characters_max} printable ASCII characters.")


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
