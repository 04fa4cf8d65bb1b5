"""A worker's life as its line tells it, over a line that is played."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from proxy.workers.channel import Channel, Message
from proxy.workers.life import Life


class PlayedLine:
    """What a worker says, and what it was told."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        self._said: asyncio.Queue[Message | None] = asyncio.Queue()

    def says(self, message: Message | None) -> None:
        self._said.put_nowait(message)

    async def receive(self) -> Message | None:
        return await self._said.get()

    async def send(self, message: Message) -> None:
        self.told.append(message)


@pytest.fixture
def line() -> PlayedLine:
    return PlayedLine()


@pytest.fixture
async def life(line: PlayedLine) -> AsyncIterator[Life]:
    life = Life(cast("Channel", line))
    listening = asyncio.create_task(life.listen())
    yield life
    listening.cancel()


def report(number: int | None = None, text: str = "a 1\n") -> Message:
    return {"exposition": text, "cpu_s": 0.25, "replicas": []} | ({} if number is None else {"answer": number})


async def test_it_serves_once_it_says_so(line: PlayedLine, life: Life) -> None:
    line.says(report())
    line.says({"ready": "01ABC"})
    line.says(None)
    await life.last_words()
    assert life.incarnation == "01ABC"
    assert life.fatal is None


async def test_what_it_said_before_its_end_is_heard(line: PlayedLine, life: Life) -> None:
    for message in ({"ready": "01ABC"}, report(text="a 7\n"), {"fatal": "the disk is full"}, None):
        line.says(message)
    await life.last_words()
    assert life.fatal == "the disk is full"
    assert life.report is not None
    assert life.report["exposition"] == "a 7\n"
    assert life.cpu_s == 0.25


async def test_only_an_answer_to_this_question_is_fresh(line: PlayedLine, life: Life) -> None:
    first, second = (asyncio.create_task(life.refresh(20)) for _ in range(2))
    await asyncio.sleep(0)
    assert line.told == [{"ask": 1}, {"ask": 2}]
    line.says(report(1))
    assert await first
    assert not second.done()
    line.says(report(2, "a 2\n"))
    assert await second
    assert life.report == report(2, "a 2\n")


async def test_who_does_not_answer_in_time_is_not_waited_for(life: Life) -> None:
    assert not await life.refresh(0.01)


async def test_who_is_gone_is_not_waited_for(line: PlayedLine, life: Life) -> None:
    asked = asyncio.create_task(life.refresh(20))
    await asyncio.sleep(0)
    line.says(None)
    assert not await asked
    assert not await life.refresh(20)


async def test_a_question_has_its_own_answer(line: PlayedLine, life: Life) -> None:
    asked = asyncio.create_task(life.ask({"take": "check"}, 20))
    refreshed = asyncio.create_task(life.refresh(20))
    await asyncio.sleep(0)
    assert line.told == [{"ask": 1, "take": "check"}, {"ask": 2}]
    line.says({"answer": 1, "faults": []})
    assert await asked == {"answer": 1, "faults": []}
    assert (life.report, refreshed.done()) == (None, False)
    line.says(report(2))
    assert await refreshed


async def test_an_answer_that_comes_too_late_is_no_answer_to_another_question(line: PlayedLine, life: Life) -> None:
    assert await life.ask({"take": "bar"}, 0.01) is None
    again = asyncio.create_task(life.ask({"take": "bar"}, 20))
    await asyncio.sleep(0)
    line.says({"answer": 1, "faults": [["", "late"]]})
    line.says({"answer": 2, "faults": []})
    assert await again == {"answer": 2, "faults": []}
