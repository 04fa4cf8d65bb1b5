"""
The ledger: one stream for each tenant, with the FINAL and CORRECTION records that the settle script appends.

It reads the streams back by the time a record was written. A row has two fields, `kind` and `record`; one that this
version cannot read is told and passed over, so that it costs nobody else's report.

Must not know prices, nor who asks.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from proxy.billing import record as records
from proxy.billing.entry import Entry
from proxy.redis.client import RedisClient
from proxy.store import keys

BATCH = 1000
NEVER_US = 2**53
"""After every row."""

_log = logging.getLogger(__name__)


def log_unreadable(tenant: str, entry_id: str) -> None:
    """Log a row that is not what this version writes."""
    _log.error("ledger_unreadable", extra={"tenant": tenant, "reason": f"row {entry_id} is of no known version"})


async def at_once(rows: int) -> None:
    """Wait for nothing between two batches."""


async def read(
    connection: RedisClient,
    tenants: Iterable[str],
    from_us: int,
    to_us: int,
    *,
    unreadable: Callable[[str, str], None] = log_unreadable,
    batch: int | None = None,
    between: Callable[[int], Awaitable[None]] = at_once,
) -> AsyncIterator[Entry]:
    """
    Read what was written in [from_us, to_us), tenant by tenant, each in the order of its stream.

    `unreadable` is told the tenant and the id of each row that is not what this version writes; `between` is awaited
    after each batch, with the number of its rows.
    Raises: LedgerUnavailable.
    Units: microseconds since the epoch; streams know milliseconds.
    Bounds: `batch` rows in memory, BATCH for None.
    """
    count = batch or BATCH
    for tenant in tenants:
        start, end = f"{-(-from_us // 1000)}-0", f"({-(-to_us // 1000)}-0"
        rows: list[Any] | None = None
        while rows is None or len(rows) == count:
            rows = await connection.call("XRANGE", keys.ledger(tenant), start, end, "COUNT", count)
            await between(len(rows))
            for entry_id, values in rows:
                try:
                    entry = Entry(entry_id, values["kind"], records.read(values["record"]))
                except (KeyError, ValueError):
                    unreadable(tenant, entry_id)
                else:
                    yield entry
                start = f"({entry_id}"
