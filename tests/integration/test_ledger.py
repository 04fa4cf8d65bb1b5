"""The ledger reads back what was written, once, in order and by the time it was written."""

import pytest

from proxy.billing.record import written
from proxy.redis.client import RedisClient
from proxy.store import keys, ledger
from proxy.store.ledger import read
from tests.records import RECORD


async def append(connection: RedisClient, entry_id: str, request_id: str, tenant: str = "acme") -> None:
    text = written(RECORD._replace(request_id=request_id, tenant=tenant)).decode()
    await connection.call("XADD", keys.ledger(tenant), entry_id, "kind", "FINAL", "record", text)


async def test_a_row_that_is_not_ours_is_told_and_costs_no_other(
    connection: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    await append(connection, "1-0", "first")
    await connection.call("XADD", keys.ledger("acme"), "2-0", "kind", "FINAL", "request_id", "of-an-older-commit")
    await connection.call("XADD", keys.ledger("acme"), "3-0", "kind", "FINAL", "record", "[1, 2]")
    await append(connection, "4-0", "last")
    told: list[tuple[str, str]] = []
    rows = read(connection, ["acme"], 0, 10_000, unreadable=lambda tenant, entry_id: told.append((tenant, entry_id)))
    assert [entry.id async for entry in rows] == ["1-0", "4-0"]
    assert told == [("acme", "2-0"), ("acme", "3-0")]
    assert [entry.id async for entry in read(connection, ["acme"], 0, 10_000)] == ["1-0", "4-0"]
    assert [line.message for line in caplog.records] == 2 * ["ledger_unreadable"]


async def test_a_range_is_half_open(connection: RedisClient) -> None:
    for entry_id in ("999-7", "1000-0", "1000-1", "1999-9", "2000-0"):
        await append(connection, entry_id, entry_id)
    found = [entry async for entry in read(connection, ["acme"], 1_000_000, 2_000_000)]
    assert [entry.id for entry in found] == ["1000-0", "1000-1", "1999-9"]
    assert [entry.record.request_id for entry in found] == ["1000-0", "1000-1", "1999-9"]


async def test_many_rows_come_in_batches_each_once(connection: RedisClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "BATCH", 3)
    for number in range(1, 11):
        await append(connection, f"5-{number}", str(number))
    await append(connection, "6-0", "other", tenant="globex")
    found = [entry.record async for entry in read(connection, ["acme", "nobody", "globex"], 0, 10_000)]
    assert [record.request_id for record in found] == [*map(str, range(1, 11)), "other"]
    assert found[-1].tenant == "globex"
