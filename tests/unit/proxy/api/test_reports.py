"""Reports read the ledger beside the traffic: bounded, paced, and fair among tenants."""

import asyncio
import time

import pytest

from proxy.api import reports as module
from proxy.api.reports import READERS_MAX, Reports
from proxy.billing.query import Period, UsageQuery
from proxy.errors import ApiError, InvalidRequest
from tests.records import RECORD
from tests.unit.proxy.memory_rows import MemoryRows

MINUTE_US = 60_000_000
HOUR = UsageQuery(period=Period(0, 60 * MINUTE_US), group_by=("user",))


@pytest.fixture
def rows() -> MemoryRows:
    """Keep three requests of every of the first ten minutes."""
    rows = MemoryRows()
    for number in range(30):
        rows.write(RECORD._replace(user=f"user-{number % 3}"), number // 3 * MINUTE_US + number)
    return rows


@pytest.fixture
def reports(rows: MemoryRows, monkeypatch: pytest.MonkeyPatch) -> Reports:
    monkeypatch.setattr(module, "ROW_S", 0)
    return Reports(rows.reader)


async def test_a_page_has_as_many_buckets_as_asked_or_all_there_are(reports: Reports) -> None:
    page = await reports.page(HOUR, MINUTE_US, 4)
    assert [bucket.period.from_us // MINUTE_US for bucket in page] == [0, 1, 2, 3]
    assert [len(bucket.report) for bucket in page] == [3, 3, 3, 3]
    page = await reports.page(HOUR, MINUTE_US, 1440)
    assert [len(bucket.report) for bucket in page] == 10 * [3] + 50 * [0]


@pytest.mark.parametrize(("name", "value"), [("PAGE_ROWS", 20), ("PAGE_LINES", 7)])
async def test_a_page_ends_early_with_the_bucket_that_makes_it_long(
    reports: Reports, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    monkeypatch.setattr(module, name, value)
    assert len(await reports.page(HOUR, MINUTE_US, 60)) == {"PAGE_ROWS": 2, "PAGE_LINES": 3}[name]


@pytest.mark.parametrize(("name", "param"), [("ROWS_MAX", "bucket_width"), ("LINES_MAX", "group_by")])
async def test_a_bucket_that_is_too_large_ends_the_page_before_it_and_is_refused_alone(
    reports: Reports, rows: MemoryRows, monkeypatch: pytest.MonkeyPatch, *, name: str, param: str
) -> None:
    for number in range(20):
        rows.write(RECORD._replace(user=f"other-{number}"), 2 * MINUTE_US)
    monkeypatch.setattr(module, name, 30)
    monkeypatch.setattr(module, "LINES_MAX", min(module.LINES_MAX, 22))
    assert len(await reports.page(HOUR, MINUTE_US, 60)) == 2
    with pytest.raises(InvalidRequest) as refused:
        await reports.page(UsageQuery(period=Period(2 * MINUTE_US, 9 * MINUTE_US), group_by=("user",)), MINUTE_US, 60)
    assert refused.value.param == param


async def test_a_tenant_has_so_many_reports_at_a_time_and_no_other_is_in_its_way(reports: Reports) -> None:
    with reports.reader("acme"), reports.reader("acme"), reports.reader("acme"):
        with reports.reader("acme"):
            assert READERS_MAX == 4
            with pytest.raises(ApiError) as refused, reports.reader("acme"):
                pass
            assert (refused.value.status, refused.value.retry_after_s) == (429, 1)
            with reports.reader("globex"):
                pass
        with reports.reader("acme"):
            pass
    assert not reports._readers


async def test_all_reports_together_rest_three_times_what_they_read(rows: MemoryRows) -> None:
    reports = Reports(rows.reader)
    ten = UsageQuery(period=Period(0, 10 * MINUTE_US))
    began = time.monotonic()
    pages = await asyncio.gather(*(reports.page(ten, MINUTE_US, 10) for _ in range(3)))
    took_s = time.monotonic() - began
    assert [sum(bucket.rows for bucket in page) for page in pages] == 3 * [10 * 3 + 30 * 4]
    assert took_s >= 3 * 3 * 150 * module.ROW_S
