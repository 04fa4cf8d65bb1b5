"""What is thrown away goes at one pace, whoever sends it and however many they are, and nobody is forgotten."""

from typing import Any

import pytest

from proxy.edge.discarding import Discarding
from tests.unit.proxy.edge.played_connection import PlayedLoop

READ = 256 * 1024
PER_S = 40 * 2**20


class Flood:
    """A client that sends as much as is read of it, a read at a time."""

    def __init__(self, discarding: Discarding, loop: Any) -> None:
        self._discarding = discarding
        self._loop = loop
        self.taken = 0
        self.reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def send(self) -> None:
        self.taken += READ
        self._discarding.take(READ, self, self._loop)


@pytest.fixture
def loop() -> Any:
    return PlayedLoop()


def flooded(floods: list[Flood], loop: Any, seconds: float) -> None:
    """Let everybody send what is read of them, and time pass."""
    for _ in range(round(seconds * 200)):
        for flood in floods:
            while flood.reading:
                flood.send()
        loop.run(0.005)


@pytest.mark.parametrize("number", [1, 2, 4, 7, 300])
def test_the_pace_is_one_for_all(number: int, loop: Any) -> None:
    discarding = Discarding()
    floods = [Flood(discarding, loop) for _ in range(number)]
    flooded(floods, loop, 10)
    taken = sum(flood.taken for flood in floods)
    assert 9 * PER_S <= taken <= 10.1 * PER_S + number * READ
    assert max(flood.taken for flood in floods) <= 2 * min(flood.taken for flood in floods) + 8 * READ


def test_a_little_is_taken_at_once(loop: Any) -> None:
    discarding = Discarding()
    flood = Flood(discarding, loop)
    for _ in range(3):
        flood.send()
    assert flood.reading
    loop.run(10)
    assert loop.waiting == 0, "nothing is waited for when nothing is sent"


def test_who_was_left_unread_is_read_again_and_who_has_ended_is_not(loop: Any) -> None:
    discarding = Discarding()
    ended, waiting = Flood(discarding, loop), Flood(discarding, loop)
    flooded([ended, waiting], loop, 0.01)
    assert [ended.reading, waiting.reading] == [False, False]
    discarding.leave(ended)
    discarding.leave(ended)
    loop.run(10)
    assert (ended.reading, waiting.reading, loop.waiting) == (False, True, 0)
