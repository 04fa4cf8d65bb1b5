"""A query reads the ledger of whom it asks for, in its period alone, and is told of what cannot be read."""

import pytest

from proxy.billing.query import Period, UsageQuery, answer
from proxy.billing.record import written
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.ledger_rows import LedgerRows
from tests.records import RECORD

TENANTS = ("acme", "globex", "=1 {x}")


@pytest.fixture
async def rows(connection: RedisClient) -> LedgerRows:
    """Give every tenant one row a second from 1970 on, and acme one that nobody can read."""
    await connection.call("SADD", keys.TENANTS, *TENANTS)
    for tenant in TENANTS:
        for second in range(3):
            text = written(RECORD._replace(tenant=tenant, user=f"user-{second}")).decode()
            await connection.call(
                "XADD", keys.ledger(tenant), f"{second * 1000 + 1}-0", "kind", "FINAL", "record", text
            )
    await connection.call("XADD", keys.ledger("acme"), "2500-0", "kind", "FINAL", "record", "[]")
    return LedgerRows(connection)


async def asked(rows: LedgerRows, period: Period, **chosen: dict[str, set[str]]) -> tuple[list[tuple[str, ...]], int]:
    report = await answer(UsageQuery(period=period, group_by=("tenant", "user"), **chosen), rows)
    return [row.names for row in report.rows()], report.unreadable.count


async def test_everybody_is_read_where_nobody_is_named(rows: LedgerRows) -> None:
    names, unreadable = await asked(rows, Period(1_001_000, 2_001_000))
    assert names == [(tenant, "user-1") for tenant in sorted(TENANTS)]
    assert unreadable == 0


async def test_who_is_named_is_read_and_nobody_else(rows: LedgerRows) -> None:
    names, unreadable = await asked(rows, Period(0, 9_000_000), only={"tenant": {"globex", "nobody"}})
    assert names == [("globex", f"user-{second}") for second in range(3)]
    assert unreadable == 0


async def test_what_cannot_be_read_is_in_no_sum_and_told(rows: LedgerRows) -> None:
    names, unreadable = await asked(rows, Period(2_000_000, 9_000_000), only={"tenant": {"acme"}})
    assert (names, unreadable) == ([("acme", "user-2")], 1)
