"""The ledger reads back what was written, once, in order and by the time it was written."""

from dataclasses import replace

import pytest

from proxy.billing.record import ExchangeRecord, Source
from proxy.store import keys, ledger
from proxy.store.connection import Connection
from proxy.store.ledger import flat, read, record_of
from tests.records import RECORD


async def append(connection: Connection, entry_id: str, request_id: str, tenant: str = "acme") -> None:
    row = [part for pair in flat(replace(RECORD, request_id=request_id, tenant=tenant)).items() for part in pair]
    await connection.call("XADD", keys.ledger(tenant), entry_id, "kind", "FINAL", *row)


@pytest.mark.parametrize(
    "record",
    [RECORD, replace(RECORD, ttft_ms=None, stream=False, user="", source=Source.RECOVERED, charge_micros=2**60)],
)
def test_a_record_survives_as_text(record: ExchangeRecord) -> None:
    assert record_of(flat(record)) == record


def test_a_name_of_a_later_version_is_passed_over() -> None:
    assert record_of({**flat(RECORD), "later": "1"}) == RECORD


async def test_a_range_is_half_open(connection: Connection) -> None:
    for entry_id in ("999-7", "1000-0", "1000-1", "1999-9", "2000-0"):
        await append(connection, entry_id, entry_id)
    found = [entry async for entry in read(connection, ["acme"], 1_000_000, 2_000_000)]
    assert [entry.id for entry in found] == ["1000-0", "1000-1", "1999-9"]
    assert [entry.written_us for entry in found] == [1_000_000, 1_000_000, 1_999_000]
    assert [entry.record.request_id for entry in found] == ["1000-0", "1000-1", "1999-9"]


async def test_many_rows_come_in_batches_each_once(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "BATCH", 3)
    for number in range(1, 11):
        await append(connection, f"5-{number}", str(number))
    await append(connection, "6-0", "other", tenant="globex")
    found = [entry.record async for entry in read(connection, ["acme", "nobody", "globex"], 0, 10_000)]
    assert [record.request_id for record in found] == [*map(str, range(1, 11)), "other"]
    assert found[-1].tenant == "globex"
