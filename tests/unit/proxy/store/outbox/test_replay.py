"""What only the log has is sent until Redis has it; what Redis lost is sent again; what lasts is deleted."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from policies.quota import Ask
from proxy.billing.record import ExchangeRecord
from proxy.errors import LedgerUnavailable
from proxy.store.journal.journal import Journal
from proxy.store.outbox import replay as module
from proxy.store.outbox.end import Settle, written
from proxy.store.outbox.replay import LATE_US, Replay, send
from tests.records import RECORD
from tests.unit.proxy.memory_reservations import MemoryReservations

ASK = Ask(prompt_tokens=100, choices=1, max_completion=100, min_completion=16, hold_us=1_000_000)


class Played:
    """A log on a real disk, a book in memory, and a Redis that may be another than before."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.store = MemoryReservations()
        self.billed: list[ExchangeRecord] = []
        self.corrected: list[ExchangeRecord] = []
        self.beats = 0
        self.is_new = False
        self.replay = Replay(
            self.store,
            journal,
            self.beat,
            billed=self.billed.append,
            corrected=self.corrected.append,
            retry_s=0.001,
            keep_s=0,
        )

    async def beat(self) -> None:
        self.beats += 1
        if "beat" in self.store.away:
            raise LedgerUnavailable
        if self.is_new:
            self.is_new = False
            self.replay.restarted()

    async def owe(self, *names: str) -> None:
        for name in names:
            self.journal.owe(await self.journal.append(written(end(name))))

    @property
    def ledger(self) -> list[str]:
        return [record.request_id for record in self.store.ledger]


def end(name: str, *, age_us: int = 0) -> Settle:
    started_at = time.time_ns() // 1_000 - age_us
    record = RECORD._replace(request_id=name, started_at=started_at, finished_at=started_at + 2_000_000)
    return Settle(record, (), held=0)


@pytest.fixture
async def played(tmp_path: Path) -> AsyncIterator[Played]:
    async with Journal(tmp_path / "journal", "living") as journal:
        yield Played(journal)


async def test_what_is_owed_is_sent_until_it_is_taken_and_billed_once(played: Played) -> None:
    played.store.away = {"settle"}
    await played.owe("a", "b", "c")
    async with played.replay:
        await asyncio.sleep(0.02)
        assert (played.journal.owed, played.billed) == (3, [])
        played.store.away = set()
        await until_settled(played)
    assert sorted(played.ledger) == ["a", "b", "c"]
    assert played.billed == played.store.ledger


async def until_settled(played: Played) -> None:
    async with asyncio.timeout(20):
        while played.journal.unsettled:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_an_old_one_goes_to_the_ledger_alone(played: Played) -> None:
    await send(played.store, end("young", age_us=LATE_US - 60_000_000))
    await send(played.store, end("old", age_us=LATE_US + 60_000_000))
    assert played.store.steps == ["settle", "append_late"]


async def test_one_that_is_never_taken_holds_up_no_other(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    taken = played.store.settle

    async def but_not_a(record: ExchangeRecord, *args: object, **options: object) -> object:
        if record.request_id == "a":
            raise LedgerUnavailable
        return await taken(record, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(played.store, "settle", but_not_a)
    await played.owe("a", "b", "c")
    for _ in range(3):
        with pytest.raises(LedgerUnavailable):
            await played.replay.send_owed()
    assert (played.journal.owed, played.ledger) == (1, ["b", "c"])


async def test_what_another_ended_first_is_not_billed_here(played: Played) -> None:
    await played.store.release(RECORD, ())
    await played.owe(RECORD.request_id)
    await played.replay.send_owed()
    assert (played.journal.unsettled, played.billed, played.ledger) == (0, [], [])


async def test_a_round_cut_in_the_middle_is_made_again_and_bills_once(played: Played) -> None:
    played.store.held["settle"] = asyncio.Event()
    await played.owe("a")
    sending = asyncio.create_task(played.replay.send_owed())
    async with asyncio.timeout(20):
        while not played.ledger:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    sending.cancel()
    await asyncio.wait([sending])
    assert (played.journal.owed, played.billed) == (1, [])
    played.store.held.clear()
    await played.replay.send_owed()
    assert (played.journal.owed, len(played.billed), played.ledger) == (0, 1, ["a"])


async def test_a_start_sends_what_a_dead_gateway_left_before_it_serves(tmp_path: Path, played: Played) -> None:
    async with Journal(tmp_path / "journal", "dying") as dying:
        await dying.append(written(end("a")))
    async with played.replay:
        assert (played.ledger, [record.request_id for record in played.billed]) == (["a"], ["a"])


async def test_a_start_does_not_wait_for_a_redis_that_is_silent(
    tmp_path: Path, played: Played, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "START_S_MAX", 0.05)
    monkeypatch.setattr(module, "LAST_TRY_S_MAX", 0.05)
    async with Journal(tmp_path / "journal", "dying") as dying:
        await dying.append(written(end("a")))
    played.store.held["settle"] = asyncio.Event()
    async with played.replay:
        assert played.journal.owed == 1
    assert [record.message for record in caplog.records if record.name == module.__name__][-1] == "owed_left"


async def test_a_restarted_redis_is_sent_everything_again_and_nobody_is_billed_twice(played: Played) -> None:
    await played.owe("a", "b")
    await played.replay.send_owed()
    played.store.ledger.clear()
    played.store.book.reservations.clear()
    for _ in range(2):
        played.replay.restarted()
        await played.replay.send_doubted()
        assert sorted(played.ledger) == ["a", "b"]
        assert len(played.billed) == 2
    sent = len(played.store.steps)
    await played.replay.send_doubted()
    assert len(played.store.steps) == sent, "nothing is in doubt any more"


async def test_a_correction_is_told_once_however_often_redis_is_restarted(played: Played) -> None:
    record = end("a").record
    await played.store.reserve(record, (), ASK)
    await played.store.expire(record._replace(completion_tokens=1), (), held=0)
    await played.owe("a")
    await played.replay.send_owed()
    for _ in range(2):
        played.replay.restarted()
        await played.replay.send_doubted()
    assert [correction.completion_tokens for correction in played.corrected] == [10]


async def test_one_that_a_restarted_redis_never_takes_holds_up_no_other(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr("proxy.store.journal.writer.SEGMENT_S", 0)
    taken = played.store.settle
    refused = {"a", "b"}

    async def but_not_these(record: ExchangeRecord, *args: object, **options: object) -> object:
        if record.request_id in refused:
            raise LedgerUnavailable
        return await taken(record, *args, **options)  # type: ignore[arg-type]

    for name in ("a", "b", "c"):
        await played.owe(name)
    await played.replay.send_owed()
    played.store.ledger.clear()
    played.store.book.reservations.clear()
    monkeypatch.setattr(played.store, "settle", but_not_these)
    played.replay.restarted()
    async with played.replay:
        await played.owe("d")
        async with asyncio.timeout(20):
            while len(played.ledger) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await played.replay.trim()
        refused.clear()
        async with asyncio.timeout(20):
            while played.journal.size:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    assert sorted(played.ledger) == ["a", "b", "c", "d"]
    assert len(played.billed) == 4


async def test_a_restarted_redis_that_falls_silent_is_sent_everything_later(played: Played) -> None:
    await played.owe("a")
    await played.replay.send_owed()
    played.store.ledger.clear()
    played.store.book.reservations.clear()
    played.store.away = {"settle"}
    played.replay.restarted()
    async with played.replay:
        await asyncio.sleep(0.02)
        assert not played.ledger
        played.store.away = set()
        async with asyncio.timeout(20):
            while not played.ledger:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def test_what_has_lasted_is_deleted_after_a_look_at_redis(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.journal.writer.SEGMENT_S", 0)
    await played.owe("a")
    await played.replay.trim()
    assert (played.beats, played.journal.size > 0) == (0, True), "owed"
    await played.replay.send_owed()
    played.store.away = {"beat"}
    with pytest.raises(LedgerUnavailable):
        await played.replay.trim()
    assert played.journal.size > 0, "nobody knows whether Redis has it"
    played.store.away, played.is_new = set(), True
    await played.replay.trim()
    assert played.journal.size > 0, "another Redis: it is sent again first"
    await played.replay.send_doubted()
    await played.replay.trim()
    assert played.journal.size == 0


async def test_what_cannot_be_read_is_told_once_and_stays(
    played: Played, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.journal.writer.SEGMENT_S", 0)
    played.journal.owe(await played.journal.append(b'{"from": "the future"}'))
    await played.replay.send_owed()
    await played.replay.send_owed()
    await played.replay.trim()
    assert [record.message for record in caplog.records] == ["settle_unreadable"]
    assert (played.journal.owed, played.journal.unsettled) == (0, 1)
    assert played.journal.size > 0
