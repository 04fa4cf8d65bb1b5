"""One row of the ledger: a record, what kind of row it is, and where it stands."""

from typing import NamedTuple

from proxy.billing.record import ExchangeRecord

FINAL = "FINAL"
CORRECTION = "CORRECTION"


class Entry(NamedTuple):
    """
    One row of the ledger.

    Units: `written_us` in microseconds since the epoch, to the millisecond.
    """

    id: str
    """Its place in the tenant's stream; a later row has a later one."""
    kind: str
    """`FINAL` or `CORRECTION`; the sum over both is what an exchange used (`proxy.billing.record`)."""
    record: ExchangeRecord

    @property
    def written_us(self) -> int:
        """Return when Redis appended this row."""
        return int(self.id.partition("-")[0]) * 1000
