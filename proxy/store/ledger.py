"""
The ledger: one stream for each tenant, with the FINAL and CORRECTION records that the settle script appends.

It owns how a record is written as names and values, and reads the streams back by the time a record was written. A
record is read by its names: one that this version does not know is passed over, so that a fleet may be upgraded one
gateway at a time.

Must not know prices, nor who asks.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from proxy.billing.record import ExchangeRecord, Source
from proxy.store import keys
from proxy.store.connection import Connection

BATCH = 1000
NEVER_US = 2**53
"""After every row."""

_TYPES = get_type_hints(ExchangeRecord)
_NAMES = tuple(field.name for field in fields(ExchangeRecord))


@dataclass(frozen=True, slots=True)
class Entry:
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


async def read(connection: Connection, tenants: Iterable[str], from_us: int, to_us: int) -> AsyncIterator[Entry]:
    """
    Read what was written in [from_us, to_us), tenant by tenant, each in the order of its stream.

    Raises: LedgerUnavailable.
    Units: microseconds since the epoch; streams know milliseconds.
    Bounds: BATCH rows in memory.
    """
    for tenant in tenants:
        start, end = f"{-(-from_us // 1000)}-0", f"({-(-to_us // 1000)}-0"
        while rows := await connection.call("XRANGE", keys.ledger(tenant), start, end, "COUNT", BATCH):
            for entry_id, values in rows:
                yield Entry(entry_id, values["kind"], record_of(values))
            start = f"({rows[-1][0]}"


def flat(record: ExchangeRecord) -> dict[str, str]:
    """Return a record as names and text."""
    return {name: _text(getattr(record, name)) for name in _NAMES}


def words(record: ExchangeRecord) -> list[str]:
    """Return a record's names and text one after the other, as XADD takes them."""
    return [word for pair in flat(record).items() for word in pair]


def record_of(values: Mapping[str, str]) -> ExchangeRecord:
    """Return the record that `flat` wrote."""
    return ExchangeRecord(**{name: _value(name, values[name]) for name in _NAMES if name in values})


def _text(value: str | int | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, int) else str(value)


def _value(name: str, text: str) -> Any:
    kind = _TYPES[name]
    if kind is str:
        return text
    if kind is bool:
        return text == "1"
    if kind is Source:
        return Source(text)
    return int(text) if text else None
