"""What is late is told once and at its time; what has moved on is waited for."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from proxy.edge.deadlines import Deadline, IdleDeadline, WriteDeadline
from tests.unit.proxy.edge.played_connection import PlayedLoop, PlayedSocket

SECONDS = 10.0


@pytest.fixture
def loop() -> Any:
    return PlayedLoop()


def test_a_deadline_is_over_once(loop: Any) -> None:
    late: list[float] = []
    deadline = Deadline(loop)
    deadline.start(SECONDS, lambda: late.append(loop.now_s))
    assert deadline.running
    loop.run(9.9)
    assert late == []
    loop.run(100)
    assert (late, deadline.running) == ([SECONDS], False)


def test_a_deadline_that_is_stopped_or_set_anew_is_not_told(loop: Any) -> None:
    late: list[str] = []
    deadline = Deadline(loop)
    deadline.start(SECONDS, lambda: late.append("first"))
    deadline.start(2 * SECONDS, lambda: late.append("second"))
    assert loop.waiting == 1
    loop.run(SECONDS)
    deadline.stop()
    deadline.stop()
    loop.run(100)
    assert (late, deadline.running, loop.waiting) == ([], False, 0)


def test_what_is_late_may_wait_for_something_else(loop: Any) -> None:
    late: list[float] = []
    deadline = Deadline(loop)
    deadline.start(1, lambda: deadline.start(2, lambda: late.append(loop.now_s)))
    loop.run(10)
    assert late == [3.0]


@dataclass
class Idler:
    """A connection that is idle or not."""

    loop: PlayedLoop
    idle: bool = True
    closed_at: list[float] = field(default_factory=list)

    def close_idle(self) -> None:
        self.closed_at.append(self.loop.now_s)


def test_an_idle_connection_is_closed_so_long_after_its_last_answer(loop: Any) -> None:
    idler, deadline = Idler(loop), IdleDeadline(loop, SECONDS)
    for _ in range(50):
        deadline.begin(idler)
        assert loop.waiting == 1, "one timer serves all answers"
        loop.run(7)
    assert idler.closed_at == []
    loop.run(100)
    assert idler.closed_at == [49 * 7 + SECONDS]


def test_a_connection_that_is_busy_is_not_closed_before_it_is_idle_again(loop: Any) -> None:
    idler, deadline = Idler(loop), IdleDeadline(loop, SECONDS)
    deadline.begin(idler)
    idler.idle = False
    loop.run(50)
    assert (idler.closed_at, loop.waiting) == ([], 0)
    idler.idle = True
    deadline.begin(idler)
    loop.run(50)
    assert idler.closed_at == [50 + SECONDS]


def test_an_idle_connection_that_ended_is_not_looked_at(loop: Any) -> None:
    idler, deadline = Idler(loop), IdleDeadline(loop, SECONDS)
    deadline.begin(idler)
    deadline.stop()
    loop.run(100)
    assert (idler.closed_at, loop.waiting) == ([], 0)


@pytest.fixture
def socket() -> PlayedSocket:
    return PlayedSocket()


@pytest.fixture
def written(socket: PlayedSocket, loop: Any) -> WriteDeadline:
    return WriteDeadline(socket, loop, SECONDS)


def test_a_client_that_reads_nothing_is_dropped(socket: PlayedSocket, written: WriteDeadline, loop: Any) -> None:
    socket.unread = 10 * HIGH_WATER_LIMIT
    written.falls_behind()
    loop.run(9.9)
    assert socket.done == []
    loop.run(0.2)
    assert socket.done == ["abort"]
    assert loop.waiting == 0


@pytest.mark.parametrize(("taken", "dropped"), [(HIGH_WATER_LIMIT, False), (HIGH_WATER_LIMIT - 1, True)])
def test_a_client_has_to_take_a_buffer_between_two_looks(
    socket: PlayedSocket, written: WriteDeadline, loop: Any, *, taken: int, dropped: bool
) -> None:
    socket.unread = 10 * HIGH_WATER_LIMIT
    written.falls_behind()
    for _ in range(5):
        socket.unread -= taken
        loop.run(SECONDS)
    assert socket.done == ["abort"] * dropped


def test_a_client_that_caught_up_and_fell_behind_again_has_its_time_anew(
    socket: PlayedSocket, written: WriteDeadline, loop: Any
) -> None:
    socket.unread = HIGH_WATER_LIMIT
    written.falls_behind()
    loop.run(6)
    written.catches_up()
    socket.unread = 5 * HIGH_WATER_LIMIT
    written.falls_behind()
    loop.run(6)
    assert socket.done == []
    loop.run(SECONDS)
    assert socket.done == ["abort"]


def test_a_client_that_keeps_up_is_left_alone(socket: PlayedSocket, written: WriteDeadline, loop: Any) -> None:
    socket.unread = HIGH_WATER_LIMIT
    written.falls_behind()
    written.catches_up()
    loop.run(100)
    assert (socket.done, loop.waiting) == ([], 0)


def test_the_end_of_an_answer_must_be_read_too(socket: PlayedSocket, written: WriteDeadline, loop: Any) -> None:
    socket.unread = HIGH_WATER_LIMIT
    socket.close()
    written.expect_reading()
    loop.run(100)
    assert socket.done == ["close", "abort"]


def test_a_client_that_is_gone_is_not_waited_for(socket: PlayedSocket, written: WriteDeadline, loop: Any) -> None:
    socket.unread = HIGH_WATER_LIMIT
    written.falls_behind()
    written.stop()
    loop.run(100)
    assert (socket.done, loop.waiting) == ([], 0)
