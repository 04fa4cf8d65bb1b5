"""What another gateway would find if this one were killed now."""

import logging

import pytest

from engine.protocols.openai import CHAT
from engine.protocols.usage import Usage
from proxy.identity.principal import Principal
from proxy.stages.progress import Progress
from proxy.tally import Tally
from tests.unit.proxy.gateway import until
from tests.unit.proxy.memory_reservations import MemoryReservations


@pytest.fixture
def store() -> MemoryReservations:
    return MemoryReservations()


@pytest.fixture
def progress(store: MemoryReservations) -> Progress:
    return Progress(store, beat_s=3600)


def begun() -> Tally:
    return Tally(CHAT, "I", principal=Principal("acme", "ada", "pro"))


async def test_only_what_moved_is_noted(progress: Progress, store: MemoryReservations) -> None:
    moving, silent = begun(), begun()
    with progress.following(moving), progress.following(silent):
        await progress.beat()
        moving.usage = Usage(17, 0, 3)
        await progress.beat()
        await progress.beat()
        moving.usage = Usage(17, 0, 4)
        await progress.beat()
    assert store.notes == [(moving.request_id, (17, 3)), (moving.request_id, (17, 4))]


async def test_a_turn_is_noted_before_the_engine_tells_anything(progress: Progress, store: MemoryReservations) -> None:
    tally = begun()
    with progress.following(tally):
        tally.replica, tally.attempts = "demo-1", 1
        await progress.beat()
        await progress.beat()
    assert store.notes == [(tally.request_id, (0, 0))]


async def test_an_exchange_that_ended_is_not_followed(progress: Progress, store: MemoryReservations) -> None:
    tally = begun()
    with progress.following(tally):
        tally.usage = Usage(17, 0, 3)
    await progress.beat()
    assert store.notes == []


async def test_a_note_that_was_not_taken_is_made_again(
    progress: Progress, store: MemoryReservations, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    tally = begun()
    with progress.following(tally):
        tally.usage = Usage(17, 0, 3)
        store.away = {"progress"}
        await progress.beat()
        assert [record.message for record in caplog.records] == ["progress_failed"]
        store.away = set()
        await progress.beat()
    assert store.notes == [(tally.request_id, (17, 3))]


async def test_how_many_are_followed_is_known(progress: Progress) -> None:
    with progress.following(begun()):
        with progress.following(begun()):
            assert len(progress) == 2
        assert len(progress) == 1
    assert len(progress) == 0


async def test_it_beats_by_itself_until_the_block_is_left(store: MemoryReservations) -> None:
    tally = begun()
    async with Progress(store, beat_s=0) as progress:
        with progress.following(tally):
            tally.usage = Usage(17, 0, 3)
            await until(lambda: store.notes)
            tally.usage = Usage(17, 0, 4)
            await until(lambda: len(store.notes) == 2)
            tally.usage = Usage(17, 0, 5)
    seen = len(store.notes)
    with pytest.raises(AssertionError):
        await until(lambda: len(store.notes) > seen)
