"""What is told of an exchange once it is over: its metrics and its line in the log."""

import time
from types import TracebackType

from proxy.billing.record import ExchangeRecord
from proxy.observe import logs
from proxy.observe.metrics import Metrics
from proxy.tally import Tally


class Meter:
    """The last stage: it has the last word, however the exchange ended."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, tally: Tally) -> "Metered":
        """
        Count and log the exchange when the block ends.

        One whose settle is owed is counted when the ledger has it, by whoever learns of it: `Ends`, or a sweeper.
        """
        return Metered(self, tally)

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

    def tell(self, tally: Tally) -> None:
        """Count and log an exchange that has ended."""
        tally.watch.ended = time.perf_counter()
        record = tally.final or tally.record()
        if tally.billed:
            self._metrics.served(record, request_s=tally.watch.request_s, overhead_s=tally.watch.overhead_s)
        elif tally.final is None:
            self._metrics.turned_away(record.tenant, record.model, record.lane, record.outcome)
        logs.exchange(record)


class Metered:
    """The block in which one exchange lives."""

    __slots__ = ("_meter", "_tally")

    def __init__(self, meter: Meter, tally: Tally) -> None:
        self._meter = meter
        self._tally = tally

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Tell how it ended."""
        self._meter.tell(self._tally)
