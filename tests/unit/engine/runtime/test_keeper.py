"""A process that is kept, without a process: what is raised, what is tried again, and when."""

import asyncio

import pytest

from engine.runtime import keeper as module
from engine.runtime.keeper import Keeper, kept
from engine.runtime.process import ChildFailed


class Lives:
    """Lives that end as they are told to; the last one goes on."""

    def __init__(self, *ends: str | Exception) -> None:
        self._ends = list(ends)
        self.told: list[str] = []
        self.last = asyncio.Event()
        self.cancelled = False

    async def __call__(self, up: asyncio.Event) -> str:
        if not self._ends:
            self.last.set()
            up.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled = True
        end = self._ends.pop(0)
        if isinstance(end, Exception):
            raise end
        up.set()
        return end

    @property
    def keeper(self) -> Keeper:
        return Keeper(self, self.told.append)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S_MIN", 0.001)
    monkeypatch.setattr(module, "PAUSE_S_MAX", 0.004)


async def test_the_pause_doubles_up_to_its_maximum() -> None:
    lives = Lives("a", "b", ChildFailed("c"), OSError("d"))
    async with asyncio.timeout(20), kept([lives.keeper]):
        await lives.last.wait()
    assert lives.told == [
        "a; it starts again in 0.001 s",
        "b; it starts again in 0.002 s",
        "c; it starts again in 0.004 s",
        "d; it starts again in 0.004 s",
    ]
    assert lives.cancelled


async def test_one_that_was_up_for_long_begins_anew_with_the_shortest_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLED_S", -1)
    lives = Lives("a", "b")
    async with asyncio.timeout(20), kept([lives.keeper]):
        await lives.last.wait()
    assert lives.told == ["a; it starts again in 0.001 s", "b; it starts again in 0.001 s"]


async def test_left_in_the_pause_it_starts_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S_MIN", 3_600)
    died, lives = asyncio.Event(), Lives("a")
    async with asyncio.timeout(20), kept([Keeper(lives, lambda became: died.set())]):
        await died.wait()
    assert not lives.last.is_set()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@pytest.mark.parametrize("fault", [ChildFailed("no"), OSError("no")])
async def test_a_first_start_that_fails_ends_the_others_too(fault: Exception) -> None:
    good, bad = Lives(), Lives(fault)
    with pytest.raises(type(fault), match="no"):
        async with kept([good.keeper, bad.keeper]):
            raise AssertionError("it was not up")
    assert good.cancelled
    assert bad.told == []


async def test_the_block_begins_when_all_are_up() -> None:
    slow, go = Lives(), asyncio.Event()

    async def live(up: asyncio.Event) -> str:
        await go.wait()
        return await slow(up)

    async with asyncio.timeout(20):
        asyncio.get_running_loop().call_later(0.01, go.set)
        async with kept([Lives().keeper, Keeper(live, print)]):
            assert slow.last.is_set()


async def test_one_that_begins_later_may_fail_at_first_and_is_tried_again() -> None:
    first, later = Lives(), Lives(ChildFailed("no"), OSError("no"))
    async with asyncio.timeout(20), kept([first.keeper]) as running:
        running.begin(later.keeper)
        await later.last.wait()
        assert later.told == ["no; it starts again in 0.001 s", "no; it starts again in 0.002 s"]
    assert first.cancelled
    assert later.cancelled


async def test_one_that_is_ended_is_ended_alone() -> None:
    first, second = Lives(), Lives()
    keepers = [first.keeper, second.keeper]
    async with asyncio.timeout(20), kept(keepers) as running:
        await running.end(keepers[0])
        assert (first.cancelled, second.cancelled) == (True, False)
