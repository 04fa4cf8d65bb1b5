"""One row of the ledger: a record, what kind of row it is, and where it stands."""

from typing import NamedTuple

from proxy.billing.record import ExchangeRecord

FINAL = "FINAL"
CORRECTION = "CORRECTION"


class Entry(NamedTuple):
    """One row of the ledger."""

    id: str
    """Its place in the tenant's stream: when Redis appended it, in milliseconds since 1970, then which row of them."""
    kind: str
    """`FINAL` or `CORRECTION`; the sum over both is what an exchange used (`proxy.billing.record`)."""
    record: ExchangeRecord
