"""
What is asked of the bill: which rows of which period, summed by what.

One query for whoever asks (the command line, HTTP). It says nothing of where rows are kept: `UsageRows` reads them, and
`answer` adds them up as they come.

Rules:
- A period is half-open, in UTC: its end is the first instant that it leaves out.
- A row belongs to the instant at which it was written, a CORRECTION to its own.
- A row that cannot be read is noted in the report, never passed over in silence.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from proxy.billing.entry import Entry
from proxy.billing.record import ExchangeRecord
from proxy.billing.reports import DIMENSIONS, GROUPS, Report


@dataclass(frozen=True, slots=True)
class Period:
    """
    A half-open stretch of time.

    Units: microseconds since the epoch.
    """

    from_us: int
    to_us: int
    """The first instant left out."""

    def __post_init__(self) -> None:
        if not 0 <= self.from_us < self.to_us:
            raise ValueError("a period begins at 1970 or later, and before its end")

    def buckets(self, width_us: int) -> Iterator["Period"]:
        """
        Yield this period in parts that end where the clock in UTC does: at a whole minute, hour or day.

        The first and the last are cut to the period, so that the parts are the whole and nothing else.
        """
        begin = self.from_us
        while begin < self.to_us:
            end = min(begin - begin % width_us + width_us, self.to_us)
            yield Period(begin, end)
            begin = end


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Which rows count, and what their sums are grouped by; every name is one of `DIMENSIONS`."""

    period: Period
    group_by: tuple[str, ...] = GROUPS
    only: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Dimensions that must have one of these values."""
    without: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Dimensions that must have none of these values."""

    def __post_init__(self) -> None:
        unknown = {*self.group_by, *self.only, *self.without} - set(DIMENSIONS)
        if unknown or len(set(self.group_by)) < len(self.group_by):
            raise ValueError(f"a query names each of {', '.join(DIMENSIONS)} at most once, and nothing else")

    @property
    def tenants(self) -> Collection[str] | None:
        """Return whose rows are asked for; None for everybody's."""
        return self.only.get("tenant")

    def takes(self, record: ExchangeRecord) -> bool:
        """Tell whether a record counts, whenever it was written."""
        return all(getattr(record, name) in values for name, values in self.only.items()) and not any(
            getattr(record, name) in values for name, values in self.without.items()
        )


class UsageRows(Protocol):
    """Where rows are kept."""

    def entries(
        self, tenants: Collection[str] | None, period: Period, unreadable: Callable[[str, str], None]
    ) -> AsyncIterator[Entry]:
        """
        Yield what was written in a period: of these tenants, of everybody for None.

        `unreadable` is told the tenant and the id of each row that is of no known version.
        """


def _unwatched(report: Report) -> None:
    """Look at nothing."""


async def answer(query: UsageQuery, rows: UsageRows, *, watch: Callable[[Report], None] = _unwatched) -> Report:
    """
    Return the sums of the rows that a query takes.

    `watch` sees the report after each row that was read; what it raises ends the reading.
    Bounds: memory for one row each group and currency, however many exchanges there were.
    """
    report = Report(query.group_by)
    async for entry in rows.entries(query.tenants, query.period, report.note_unreadable):
        if query.takes(entry.record):
            report.add(entry)
        watch(report)
    return report
