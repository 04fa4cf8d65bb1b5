"""What Redis did not take is on the disk, or in memory where that fails too; it is sent again and billed once."""

import asyncio
import logging
import time

import pytest

from policies.quota import Ask
from proxy.billing.record import ExchangeRecord
from proxy.errors import JournalUnavailable
from proxy.store.outbox import outbox as module
from proxy.store.outbox.end import Release, Settle
from proxy.store.outbox.outbox import Outbox
from tests.records import RECORD
from tests.unit.proxy.gateway import until
from tests.unit.proxy.memory_journal import MemoryJournal
from tests.unit.proxy.memory_reservations import MemoryReservations

ASK = Ask(prompt_tokens=100, choices=1, max_completion=100, min_completion=16, hold_us=1_000_000)


@pytest.fixture
def store() -> MemoryReservations:
    return MemoryReservations()


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def billed() -> list[ExchangeRecord]:
    return []


@pytest.fixture
def corrected() -> list[ExchangeRecord]:
    return []


@pytest.fixture
def outbox(
    store: MemoryReservations,
    journal: MemoryJournal,
    billed: list[ExchangeRecord],
    corrected: list[ExchangeRecord],
) -> Outbox:
    told = {"billed": billed.append, "corrected": corrected.append}
    return Outbox(store, journal, **told, failed=lambda: None, retry_s=0, owed_max=2)


def settle(name: str) -> Settle:
    return Settle(RECORD._replace(request_id=name, started_at=time.time_ns() // 1_000), (), held=0)


def release(name: str) -> Release:
    return Release(RECORD._replace(request_id=name), ())


def names(records: list[ExchangeRecord]) -> list[str]:
    return [record.request_id for record in records]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


async def test_what_is_taken_at_once_is_not_owed(
    outbox: Outbox, store: MemoryReservations, journal: MemoryJournal, billed: list[ExchangeRecord]
) -> None:
    assert await outbox.settle(settle("a"))
    await outbox.release(release("b"))
    assert (len(outbox), names(store.ledger), billed) == (0, ["a"], [])
    assert (len(journal.payloads), journal.unsettled) == (1, 0)


async def test_a_settle_ends_only_when_the_disk_has_it(
    outbox: Outbox, store: MemoryReservations, journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.away = {"settle"}
    assert not await outbox.settle(settle("a"))
    assert (len(outbox), journal.unsettled, len(journal.payloads)) == (1, 1, 1)


async def test_a_correction_is_told_once_it_is_known(
    outbox: Outbox, store: MemoryReservations, journal: MemoryJournal, corrected: list[ExchangeRecord]
) -> None:
    for name in ("a", "b"):
        await store.reserve(settle(name).record, (), ASK)
        await store.expire(settle(name).record._replace(completion_tokens=1), (), held=0)
    assert not await outbox.settle(settle("a"))
    assert names(corrected) == ["a"]
    journal.full, store.away = True, {"settle"}
    with pytest.raises(JournalUnavailable):
        await outbox.settle(settle("b"))
    store.away = set()
    await outbox.send_owed()
    assert names(corrected) == ["a", "b"]


async def test_the_last_releases_are_sent_again_to_a_redis_that_may_have_lost_them(
    outbox: Outbox, store: MemoryReservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.reserve(release("a").record, (), ASK)
    await outbox.release(release("a"))
    store.book.reservations.clear()
    await store.reserve(release("a").record, (), ASK)
    for _ in range(2):
        outbox.restarted()
        await outbox.send_owed()
        assert (store.pending, len(outbox)) == ([], 0)
    assert store.steps.count("release") == 3


async def test_releases_are_sent_again_in_order_until_they_are_taken(outbox: Outbox, store: MemoryReservations) -> None:
    store.away = {"release"}
    async with outbox:
        for name in ("a", "b"):
            await outbox.release(release(name))
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(outbox) == 2
        store.away = set()
        await until(lambda: not len(outbox))
    assert store.steps == ["release", "release"]


async def test_what_neither_took_is_told_and_owed_in_memory(
    outbox: Outbox, store: MemoryReservations, journal: MemoryJournal, billed: list[ExchangeRecord]
) -> None:
    journal.full, store.away = True, {"settle", "append_late"}
    with pytest.raises(JournalUnavailable):
        await outbox.settle(settle("a"))
    with pytest.raises(JournalUnavailable):
        outbox.check()
    assert (len(outbox), journal.unsettled) == (1, 0)
    with pytest.raises(JournalUnavailable):
        await outbox.send_owed()
    journal.full = False
    outbox.check()
    await outbox.send_owed()
    assert (len(outbox), journal.owed, billed) == (1, 1, []), "now the disk has it"


async def test_what_neither_took_may_be_taken_by_redis_first(
    outbox: Outbox, store: MemoryReservations, journal: MemoryJournal, billed: list[ExchangeRecord]
) -> None:
    journal.full, store.away = True, {"settle"}
    with pytest.raises(JournalUnavailable):
        await outbox.settle(settle("a"))
    store.away = set()
    await outbox.send_owed()
    assert (len(outbox), names(billed), names(store.ledger)) == (0, ["a"], ["a"])


async def test_what_redis_took_ends_well_though_the_disk_is_full(
    outbox: Outbox, store: MemoryReservations, journal: MemoryJournal
) -> None:
    journal.full = True
    assert await outbox.settle(settle("a"))
    assert (len(outbox), names(store.ledger)) == (0, ["a"])


async def test_a_bug_of_the_store_loses_no_settle(
    outbox: Outbox, store: MemoryReservations, journal: MemoryJournal
) -> None:
    store.broken = LookupError()
    with pytest.raises(LookupError):
        await outbox.settle(settle("a"))
    assert journal.owed == 1


async def test_beyond_the_maximum_an_end_is_logged_and_releases_push_out_no_bill(
    outbox: Outbox, store: MemoryReservations, journal: MemoryJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.full, store.away = True, {"settle"}
    for name in ("a", "b", "c"):
        outbox.owe(release(name))
    caplog.set_level(logging.CRITICAL, module.__name__)
    for name in ("d", "e"):
        with pytest.raises(JournalUnavailable):
            await outbox.settle(settle(name))
    caplog.set_level(logging.ERROR, module.__name__)
    with pytest.raises(JournalUnavailable):
        await outbox.settle(settle("f"))
    assert len(outbox) == 4
    lost = [record.request_id for record in caplog.records if record.message == "end_lost"]  # type: ignore[attr-defined]
    assert lost == ["c", "f"]


async def test_while_the_disk_works_no_settle_is_lost_however_many_are_owed(
    outbox: Outbox, store: MemoryReservations, caplog: pytest.LogCaptureFixture
) -> None:
    store.away = {"settle"}
    for number in range(10):
        await outbox.settle(settle(str(number)))
    assert len(outbox) == 10
    assert "end_lost" not in told(caplog)


async def test_leaving_sends_a_last_time_and_tells_what_is_left(
    outbox: Outbox, store: MemoryReservations, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with outbox:
        outbox.owe(release("a"))
    assert store.steps == ["release"]
    monkeypatch.setattr(module, "LAST_TRY_S_MAX", 0.01)
    async with outbox:
        store.held["release"] = asyncio.Event()
        outbox.owe(release("b"))
    assert told(caplog) == ["owed_failed", "end_lost"]
