"""Pages over a real ledger: many batches, several tenants, each row in one page and in one bucket."""

from collections import Counter

import pytest
from redis import Redis

from proxy.api import reports as module
from proxy.api.reports import Reports
from proxy.billing.query import Period, UsageQuery, answer
from proxy.billing.record import written
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.ledger_rows import LedgerRows
from tests.records import RECORD

HOUR_US = 3_600_000_000
ROWS, TENANTS, USERS = 3_000, ("acme", "globex"), 300
STEP_MS = 997_000
"""Rows lie over 34 days, rarely at a boundary."""


@pytest.fixture
def _ledger(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        client.sadd(keys.TENANTS, *TENANTS)
        pipeline = client.pipeline(transaction=False)
        for number in range(1, ROWS + 1):
            record = RECORD._replace(user=f"user-{number % USERS}", prompt_tokens=number)
            row = {"kind": "FINAL", "record": written(record._replace(tenant=TENANTS[number % 2]))}
            pipeline.xadd(keys.ledger(TENANTS[number % 2]), row, id=f"{number * STEP_MS}-0")
        pipeline.execute()


@pytest.mark.usefixtures("_ledger")
@pytest.mark.parametrize(("hours", "limit"), [(1, 168), (24, 7), (24, 31)])
async def test_pages_add_up_to_the_whole(
    connection: RedisClient, monkeypatch: pytest.MonkeyPatch, hours: int, limit: int
) -> None:
    monkeypatch.setattr(module, "ROW_S", 0)
    monkeypatch.setattr(module, "PAGE_LINES", 200)
    reports = Reports(lambda between: LedgerRows(connection, batch=7, between=between))
    begin, end = 5 * STEP_MS * 1000, (ROWS - 5) * STEP_MS * 1000
    sums = Counter[tuple[str, ...]]()
    pages, at = 0, begin
    while at < end:
        query = UsageQuery(period=Period(at, end), group_by=("tenant", "user"))
        for bucket in await reports.page(query, hours * HOUR_US, limit):
            assert bucket.period.from_us == at
            at = bucket.period.to_us
            sums.update({row.names: row.sums.prompt_tokens for row in bucket.report.rows()})
        pages += 1
    whole = await answer(UsageQuery(period=Period(begin, end), group_by=("tenant", "user")), LedgerRows(connection))
    assert sums == {row.names: row.sums.prompt_tokens for row in whole.rows()}
    assert sum(sums.values()) == sum(range(5, ROWS - 5))
    assert pages > 3
