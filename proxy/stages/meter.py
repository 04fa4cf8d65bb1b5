"""What is told of an exchange once it is over: its metrics and its line in the log."""

from engine.faults import UpstreamFault
from proxy.attempt import Attempt
from proxy.billing.record import ExchangeRecord
from proxy.exchange_state import ExchangeState
from proxy.observe import logs
from proxy.observe.metrics import Metrics

OTHER_FIELD = "other"
"""Instead of the name of a field that the engine does not have."""


class Meter:
    """The last stage: it has the last word, however the exchange ended."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, state: ExchangeState) -> None:
        """
        Count and log an exchange that has ended.

        One whose settle is owed is counted when the ledger has it, by whoever learns of it: the outbox, or a sweeper.
        """
        record = state.final or state.record()
        if state.billed:
            self._metrics.served(record, request_s=state.request_s, overhead_s=state.overhead_s)
        elif state.final is None:
            self._metrics.turned_away(record.tenant, record.model, record.lane, record.outcome)
        if state.final and state.held_tokens:
            self._metrics.held(record.tenant, record.model, state.held_tokens)
        if state.call and state.call.ignored:
            withheld = state.protocol.withheld
            names = (name if name in withheld else OTHER_FIELD for name in state.call.ignored)
            self._metrics.fields_stripped(state.protocol.name, names)
        for attempt in state.attempts:
            if isinstance(attempt.fault, UpstreamFault):
                self._metrics.upstream_failed(record.model, attempt.replica.name, attempt.fault.reason)
            elif attempt.uncounted:
                self._metrics.uncounted(record.model, attempt.replica.name)
        logs.exchange(record, map(_try, state.attempts))

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
