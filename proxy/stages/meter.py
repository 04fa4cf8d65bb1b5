"""What is told of an exchange once it is over: its metrics and its line in the log."""

from proxy.billing.record import ExchangeRecord
from proxy.exchange_state import ExchangeState
from proxy.observe import logs
from proxy.observe.metrics import Metrics


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
        logs.exchange(record)

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
