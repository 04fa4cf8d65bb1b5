"""What is told of an exchange once it is over: its metrics and its line in the log."""

from engine.faults import UpstreamFault
from proxy.attempt import Attempt
from proxy.billing.record import ExchangeRecord
from proxy.errors import ApiError, Code, LimitRefused
from proxy.exchange_state import ExchangeState
from proxy.observe import logs
from proxy.observe.metrics import Metrics
from proxy.observe.token_refusals import TokenRefusals

OTHER_FIELD = "other"
"""Instead of the name of a field that the engine does not have."""


class Meter:
    """The last stage: it has the last word, however the exchange ended."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.token_refused = TokenRefusals(metrics)
        """Told of each token that is nobody's."""

    def __call__(self, state: ExchangeState) -> None:
        """
        Count and log an exchange that has ended.

        One whose settle is owed is counted when the ledger has it, by whoever learns of it: the outbox, or a sweeper.
        """
        record = state.final or state.record()
        self._count(state, record)
        if state.refusal is not None and state.principal is None:
            self.token_refused(state.refusal, state.request_id)
        else:
            logs.exchange(record, map(_try, state.attempts), _refusal(state.refusal))

    def _count(self, state: ExchangeState, record: ExchangeRecord) -> None:
        if state.billed:
            self._metrics.served(record, request_s=state.request_s, overhead_s=state.overhead_s)
        elif state.final is None:
            self._turned_away(state, record)
        if state.final and record.wasted_tokens and (held := state.held_tokens):
            self._metrics.held(record.tenant, record.model, held)
        if state.call and state.call.ignored:
            withheld = state.protocol.withheld
            names = (name if name in withheld else OTHER_FIELD for name in state.call.ignored)
            self._metrics.fields_stripped(state.protocol.name, names)
        for attempt in state.attempts:
            if isinstance(attempt.fault, UpstreamFault):
                self._metrics.upstream_failed(record.model, attempt.replica.name, attempt.fault.reason)
            elif attempt.uncounted:
                self._metrics.uncounted(record.model, attempt.replica.name)

    def _turned_away(self, state: ExchangeState, record: ExchangeRecord) -> None:
        self._metrics.turned_away(record.tenant, record.model, record.lane, record.outcome)
        error = state.refusal
        if error is None or state.principal is None:
            return
        if isinstance(error, LimitRefused):
            self._metrics.limited(error.limit, error.reason)
        elif error.status < 500 or error.code is Code.OVERLOADED:
            self._metrics.limited("", error.reason)

    def billed(self, record: ExchangeRecord) -> None:
        """Count an exchange that ended before, once the ledger has its FINAL."""
        self._metrics.billed(record)

    def recovered(self, record: ExchangeRecord) -> None:
        """Count and log an exchange of a gateway that died, once the ledger has its FINAL."""
        self._metrics.billed(record)
        logs.exchange(record)

    def corrected(self, record: ExchangeRecord) -> None:
        """Count and log the difference to what a sweeper had billed, once the ledger has its CORRECTION."""
        self._metrics.corrected(record)
        logs.correction(record)


def _try(attempt: Attempt) -> logs.Try:
    return logs.Try(attempt.replica.name, attempt.outcome, round(attempt.ended - attempt.dispatched, 6))


def _refusal(error: ApiError | None) -> logs.Refusal | None:
    if not isinstance(error, LimitRefused):
        return None
    return logs.Refusal(error.limit, error.reason, error.needed, error.left)
