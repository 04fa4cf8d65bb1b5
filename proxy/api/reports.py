"""
Reports over the ledger in a gateway that serves: beside the traffic, never before it.

Rules:
- All reports of a process together take about a quarter of its loop at most: after each batch nobody reads on for three
  times what the batch took. Whose turn it is next goes by arrival.
- A tenant has four at a time, so that nobody waits behind another's many.
- A bucket has at most so many rows and lines; who asks for more reads how to ask for less. A page ends with the bucket
  that makes it long enough, and the next one goes on behind it.

Bounds: BATCH rows and LINES_MAX + PAGE_LINES lines in memory; ROWS_MAX + PAGE_ROWS rows for a page, in about a minute.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from proxy.billing.query import Period, UsageQuery, UsageRows, answer
from proxy.billing.reports import Report
from proxy.errors import ApiError, Code, InvalidRequest

BATCH = 50
"""Rows read at a time: a millisecond of the loop."""
ROW_S = 20e-6
"""What a row costs of a core (AMD EPYC, Python 3.11); a call to Redis costs three."""
CALL_ROWS = 3
REST = 3
READERS_MAX = 4
ROWS_MAX, LINES_MAX = 500_000, 10_000
"""Of one bucket."""
PAGE_ROWS, PAGE_LINES = 100_000, 5_000
"""Of a page, with which it ends early."""

Between = Callable[[int], Awaitable[None]]
"""Awaited after each batch, with the number of its rows."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A stretch of time and what was used in it."""

    period: Period
    report: Report
    rows: int
    """What it took to read, in rows."""


@dataclass(slots=True)
class Reports:
    """Every report of this process; `rows` makes a reader that awaits what it is given after each batch."""

    rows: Callable[[Between], UsageRows]
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _readers: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def reader(self, tenant: str) -> Iterator[None]:
        """Be one of a tenant's readers for the block; raise ApiError where there are as many as may be."""
        if self._readers[tenant] >= READERS_MAX:
            message = f"{READERS_MAX} reports of this tenant are read already; wait for one of them."
            raise ApiError(Code.CONCURRENCY_LIMIT_EXCEEDED, message, retry_after_s=1)
        self._readers[tenant] += 1
        try:
            yield
        finally:
            self._readers[tenant] -= 1
            if not self._readers[tenant]:
                del self._readers[tenant]

    async def page(self, query: UsageQuery, width_us: int, limit: int) -> list[Bucket]:
        """
        Return the first buckets of a query's period, at most `limit` and at least one.

        Raises: InvalidRequest where the first one is too large, LedgerUnavailable.
        """
        page: list[Bucket] = []
        for period in query.period.buckets(width_us):
            try:
                page.append(await self._bucket(replace(query, period=period)))
            except _TooLarge as error:
                if page:
                    break
                raise InvalidRequest(error.message, error.param) from None
            if len(page) == limit or _long(page):
                break
        return page

    async def _bucket(self, query: UsageQuery) -> Bucket:
        read = 0

        async def rest(rows: int) -> None:
            nonlocal read
            read += rows + CALL_ROWS
            if read > ROWS_MAX:
                raise _TooManyRows
            async with self._turn:
                await asyncio.sleep(REST * (rows + CALL_ROWS) * ROW_S)

        report = await answer(query, self.rows(rest), watch=_few_lines)
        return Bucket(query.period, report, read)


class _TooLarge(Exception):
    message: str
    param: str


class _TooManyRows(_TooLarge):
    message = f"A bucket has more than {ROWS_MAX} requests: ask for a narrower one, or run `tollway usage`."
    param = "bucket_width"


class _TooManyLines(_TooLarge):
    message = f"A bucket has more than {LINES_MAX} results: group by less, filter, or ask for a narrower one."
    param = "group_by"


def _few_lines(report: Report) -> None:
    if len(report) > LINES_MAX:
        raise _TooManyLines


def _long(page: list[Bucket]) -> bool:
    return sum(bucket.rows for bucket in page) >= PAGE_ROWS or sum(len(bucket.report) for bucket in page) >= PAGE_LINES
