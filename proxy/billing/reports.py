"""
Sums up the ledger: who used what, and what it costs.

Pure: rows of the ledger in, rows of a report out. A FINAL counts its request; a CORRECTION only adds its
differences, which may be negative. Money of different currencies is never added, so a group has one row for each of its
currencies.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from proxy.billing.entry import FINAL, Entry
from proxy.billing.record import ExchangeRecord

GROUPS = ("tenant", "user", "model")
"""What a report is grouped by where nobody says it, from the widest."""
DIMENSIONS = (*GROUPS, "plan", "lane", "endpoint", "replica", "group", "price_version", "outcome", "source")
"""What a record can be grouped and chosen by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSums:
    """
    What was used and charged, in one currency.

    Units: tokens; `charge_picos` in 10^-12 of the currency.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """The part of `prompt_tokens` that the prefix cache held."""
    completion_tokens: int = 0
    charge_picos: int = 0

    def plus(self, record: ExchangeRecord, requests: int) -> "UsageSums":
        """Return these sums with a record added."""
        return replace(
            self,
            requests=self.requests + requests,
            prompt_tokens=self.prompt_tokens + record.prompt_tokens,
            cached_tokens=self.cached_tokens + record.cached_tokens,
            completion_tokens=self.completion_tokens + record.completion_tokens,
            charge_picos=self.charge_picos + record.charge_picos,
        )


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One line of a report."""

    names: tuple[str, ...]
    """The values of what the report is grouped by; empty in a total."""
    currency: str
    """Empty for what has no price."""
    sums: UsageSums


@dataclass(slots=True)
class UnreadableRows:
    """Rows that no sum has, because this version cannot read them."""

    count: int = 0
    first: tuple[str, str] | None = None
    """The tenant and the id of the first."""


class Report:
    """
    The sums of every ledger row added so far.

    Bounds: memory for one row each group and currency, however many exchanges there were.
    """

    def __init__(self, group_by: tuple[str, ...] = GROUPS) -> None:
        self.group_by = group_by
        self.unreadable = UnreadableRows()
        self._sums: dict[tuple[tuple[str, ...], str], UsageSums] = {}
        self._totals: dict[str, UsageSums] = {}

    def __len__(self) -> int:
        """Return how many lines the report has."""
        return len(self._sums)

    def add(self, entry: Entry) -> None:
        """Add one row of the ledger."""
        record = entry.record
        requests = 1 if entry.kind == FINAL else 0
        key = tuple(getattr(record, name) for name in self.group_by), record.currency
        self._sums[key] = self._sums.get(key, UsageSums()).plus(record, requests)
        self._totals[record.currency] = self._totals.get(record.currency, UsageSums()).plus(record, requests)

    def note_unreadable(self, tenant: str, entry_id: str) -> None:
        """Count a row that is missing in the sums."""
        self.unreadable.count += 1
        self.unreadable.first = self.unreadable.first or (tenant, entry_id)

    def rows(self) -> Iterator[UsageRow]:
        """Yield the report's lines in the order of their names."""
        for (names, currency), sums in sorted(self._sums.items(), key=lambda item: item[0]):
            yield UsageRow(names, currency, sums)

    def totals(self) -> Iterator[UsageRow]:
        """Yield one total for each currency."""
        for currency, sums in sorted(self._totals.items()):
            yield UsageRow((), currency, sums)
