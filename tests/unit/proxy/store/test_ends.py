"""What the store did not take is sent again until it does, and billed once."""

import asyncio
from dataclasses import replace

import pytest

from proxy.billing.record import ExchangeRecord
from proxy.errors import LedgerUnavailable
from proxy.store import ends as module
from proxy.store.ends import Ends, Release, Settle
from tests.records import RECORD
from tests.unit.proxy.gateway import until
from tests.unit.proxy.memory_reservations import MemoryReservations


@pytest.fixture
def store() -> MemoryReservations:
    return MemoryReservations()


@pytest.fixture
def billed() -> list[ExchangeRecord]:
    return []


def ends_of(store: MemoryReservations, billed: list[ExchangeRecord], *, owed_max: int = 10) -> Ends:
    return Ends(store, billed=billed.append, failed=lambda: None, retry_s=0, owed_max=owed_max)


def settle(name: str) -> Settle:
    return Settle(replace(RECORD, request_id=name), (), unobserved=False)


def release(name: str) -> Release:
    return Release(replace(RECORD, request_id=name), ())


def names(records: list[ExchangeRecord]) -> list[str]:
    return [record.request_id for record in records]


async def test_what_is_taken_at_once_is_not_owed(store: MemoryReservations, billed: list[ExchangeRecord]) -> None:
    ends = ends_of(store, billed)
    assert await ends.settle(settle("a"))
    await ends.release(release("b"))
    assert (len(ends), names(store.ledger), billed) == (0, ["a"], [])


async def test_what_is_owed_is_sent_in_order_until_it_is_taken(
    store: MemoryReservations, billed: list[ExchangeRecord]
) -> None:
    store.away = {"settle", "release"}
    async with ends_of(store, billed) as ends:
        for name in ("a", "b", "c"):
            assert not await ends.settle(settle(name))
        await ends.release(release("d"))
        assert len(ends) == 4
        for _ in range(50):
            await asyncio.sleep(0)
        assert (len(ends), billed) == (4, [])
        store.away = set()
        await until(lambda: not len(ends))
    assert sorted(names(store.ledger)) == ["a", "b", "c"]
    assert names(billed) == names(store.ledger)
    assert store.steps.count("release") == 1


async def test_one_that_is_never_taken_holds_up_no_other(
    store: MemoryReservations, billed: list[ExchangeRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, ends = store.settle, ends_of(store, billed)

    async def but_not_a(record: ExchangeRecord, *args: object, **options: object) -> object:
        if record.request_id == "a":
            raise LedgerUnavailable
        return await taken(record, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "settle", but_not_a)
    for name in ("a", "b", "c"):
        ends.owe(settle(name))
    ends.owe(release("d"))
    for _ in range(2):
        with pytest.raises(LedgerUnavailable):
            await ends.send_owed()
    assert (len(ends), names(billed), store.steps.count("release")) == (1, ["b", "c"], 1)


async def test_what_a_sweep_ended_first_is_not_billed_here(
    store: MemoryReservations, billed: list[ExchangeRecord]
) -> None:
    ends = ends_of(store, billed)
    await store.release(RECORD, ())
    ends.owe(Settle(RECORD, (), unobserved=False))
    await ends.send_owed()
    assert (len(ends), billed, store.ledger) == (0, [], [])


async def test_beyond_the_maximum_an_end_is_logged_and_releases_push_out_no_bill(
    store: MemoryReservations, billed: list[ExchangeRecord], caplog: pytest.LogCaptureFixture
) -> None:
    ends = ends_of(store, billed, owed_max=2)
    for name in ("a", "b", "c"):
        ends.owe(release(name))
    for name in ("d", "e", "f"):
        ends.owe(settle(name))
    assert len(ends) == 4
    told = [(record.message, record.request_id) for record in caplog.records]  # type: ignore[attr-defined]
    assert told == [("end_lost", "c"), ("end_lost", "f")]


async def test_leaving_sends_a_last_time_and_tells_what_is_left(
    store: MemoryReservations,
    billed: list[ExchangeRecord],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Ends(store, billed=billed.append, failed=lambda: None) as ends:
        ends.owe(settle("a"))
    assert names(billed) == ["a"]
    monkeypatch.setattr(module, "LAST_TRY_S_MAX", 0.01)
    async with Ends(store, billed=billed.append, failed=lambda: None) as ends:
        store.held["settle"] = asyncio.Event()
        ends.owe(settle("b"))
    assert [record.message for record in caplog.records] == ["owed_failed", "end_lost"]
    assert names(billed) == ["a"]


async def test_a_settle_cut_in_the_middle_is_sent_again_and_billed_once(
    store: MemoryReservations, billed: list[ExchangeRecord]
) -> None:
    store.held["settle"] = asyncio.Event()
    ends = ends_of(store, billed)
    ends.owe(settle("a"))
    sending = asyncio.create_task(ends.send_owed())
    await until(lambda: store.ledger)
    sending.cancel()
    await asyncio.wait([sending])
    assert (len(ends), billed) == (1, [])
    store.held.clear()
    await ends.send_owed()
    assert (len(ends), names(billed), names(store.ledger)) == (0, ["a"], ["a"])
