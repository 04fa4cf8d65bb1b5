"""What another gateway would find if this one were killed now."""

import logging

import pytest

from engine.protocols.usage import Usage
from proxy.call import Call
from proxy.exchange_state import ExchangeState
from proxy.stages.progress import Progress
from tests.unit.proxy.gateway import Gateway, until
from tests.unit.proxy.memory_reservations import MemoryReservations
from tests.unit.proxy.stages.conftest import begun, tries


@pytest.fixture
def store() -> MemoryReservations:
    return MemoryReservations()


@pytest.fixture
def progress(store: MemoryReservations) -> Progress:
    return Progress(store, beat_s=3600)


async def test_only_what_moved_is_noted(
    gw: Gateway, asked: Call, progress: Progress, store: MemoryReservations
) -> None:
    moving, silent = begun(asked), begun(asked)
    with progress.following(moving), progress.following(silent):
        await progress.beat()
        attempt = tries(moving, gw, usage=Usage(17, 0, 3))
        await progress.beat()
        await progress.beat()
        attempt.usage = Usage(17, 0, 4)
        await progress.beat()
    assert store.notes == [(moving.request_id, (17, 3)), (moving.request_id, (17, 4))]


async def test_a_turn_is_noted_before_the_engine_tells_anything(
    gw: Gateway, state: ExchangeState, progress: Progress, store: MemoryReservations
) -> None:
    with progress.following(state):
        tries(state, gw)
        await progress.beat()
        await progress.beat()
    assert store.notes == [(state.request_id, (0, 0))]


async def test_an_exchange_that_ended_is_not_followed(
    gw: Gateway, state: ExchangeState, progress: Progress, store: MemoryReservations
) -> None:
    with progress.following(state):
        tries(state, gw, usage=Usage(17, 0, 3))
    await progress.beat()
    assert store.notes == []


async def test_a_note_that_was_not_taken_is_made_again(
    gw: Gateway,
    state: ExchangeState,
    store: MemoryReservations,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    progress = Progress(store, beat_s=3600)
    with progress.following(state):
        tries(state, gw, usage=Usage(17, 0, 3))
        store.away = {"progress"}
        await progress.beat()
        assert [record.message for record in caplog.records] == ["progress_failed"]
        store.away = set()
        await progress.beat()
    assert store.notes == [(state.request_id, (17, 3))]


async def test_how_many_are_followed_is_known(asked: Call, progress: Progress) -> None:
    with progress.following(begun(asked)):
        with progress.following(begun(asked)):
            assert len(progress) == 2
        assert len(progress) == 1
    assert len(progress) == 0


async def test_it_beats_by_itself_until_the_block_is_left(
    gw: Gateway, state: ExchangeState, store: MemoryReservations
) -> None:
    async with Progress(store, beat_s=0) as progress:
        with progress.following(state):
            moving = tries(state, gw, usage=Usage(17, 0, 3))
            await until(lambda: store.notes)
            moving.usage = Usage(17, 0, 4)
            await until(lambda: len(store.notes) == 2)
            moving.usage = Usage(17, 0, 5)
    seen = len(store.notes)
    with pytest.raises(AssertionError):
        await until(lambda: len(store.notes) > seen)
