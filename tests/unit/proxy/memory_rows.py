"""The ledger in memory, as a query reads it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field

from proxy.billing.entry import FINAL, Entry
from proxy.billing.query import Period
from proxy.billing.record import ExchangeRecord


async def _at_once(rows: int) -> None:
    """Wait for nothing."""


@dataclass
class MemoryRows:
    """Rows by when they were written, in microseconds; one without a record cannot be read."""

    rows: list[tuple[int, str, ExchangeRecord | None]] = field(default_factory=list)
    asked: list[tuple[Collection[str] | None, Period]] = field(default_factory=list)
    between: Callable[[int], Awaitable[None]] = _at_once

    def write(self, record: ExchangeRecord, at_us: int, kind: str = FINAL) -> None:
        """Append a row."""
        self.rows.append((at_us, kind, record))

    def spoil(self, at_us: int) -> None:
        """Append a row that nobody can read."""
        self.rows.append((at_us, FINAL, None))

    def reader(self, between: Callable[[int], Awaitable[None]]) -> "MemoryRows":
        """Return who reads these rows and awaits `between` after each."""
        return MemoryRows(self.rows, self.asked, between)

    async def entries(
        self, tenants: Collection[str] | None, period: Period, unreadable: Callable[[str, str], None]
    ) -> AsyncIterator[Entry]:
        """Yield what was written in a period; a batch is one row."""
        self.asked.append((tenants, period))
        await self.between(0)
        for at_us, kind, record in self.rows:
            if not period.from_us <= at_us < period.to_us:
                continue
            await self.between(1)
            if record is None:
                unreadable("acme", f"{at_us // 1000}-0")
            elif tenants is None or record.tenant in tenants:
                yield Entry(f"{at_us // 1000}-0", kind, record)
