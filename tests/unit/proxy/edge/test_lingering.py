"""A connection's end: what is done to the socket in each state, and that everything is given back."""

import weakref
from typing import Any

import pytest

from proxy.edge.connections import Connections
from proxy.edge.edge import Edge
from proxy.edge.lingering import ConnectionState, LingeringTransport
from tests.unit.proxy.edge.played_connection import PlayedLoop, PlayedSocket

LINGER_S = 2.0


class Ending:
    """A transport, and what a test looks at."""

    def __init__(self) -> None:
        self.loop = PlayedLoop()
        self.socket = PlayedSocket()
        self.edge = Edge(connections=Connections(1, 1), head_s_max=1, write_s_max=10)
        self.arriving = False
        self.ended = 0
        loop: Any = self.loop
        self.transport = LingeringTransport(self.socket, loop, self.edge, arriving=self.more, ending=self.end)

    def more(self) -> bool:
        return self.arriving

    def end(self) -> None:
        self.ended += 1

    @property
    def state(self) -> ConnectionState:
        return self.transport.state


@pytest.fixture
def it() -> Ending:
    return Ending()


def test_a_client_that_has_sent_everything_is_closed_at_once(it: Ending) -> None:
    it.transport.close()
    assert it.socket.done == ["close"]
    assert it.transport.is_closing()
    assert (it.ended, it.edge.lingering, it.loop.waiting) == (0, 0, 0)


def test_a_client_that_may_still_be_sending_is_lingered_for(it: Ending) -> None:
    it.arriving = True
    it.transport.close()
    it.transport.close()
    assert it.socket.done == ["write_eof"]
    assert (it.ended, it.edge.lingering, it.transport.is_closing()) == (1, 1, True)
    it.loop.run(LINGER_S)
    assert it.socket.done == ["write_eof", "abort"]
    it.transport.lost()
    assert (it.state, it.edge.lingering) == (ConnectionState.LOST, 0)


def test_a_refused_client_is_told_why_after_the_answers_before(it: Ending) -> None:
    it.transport.refuse(b"no")
    assert (it.state, it.transport.is_closing(), it.socket.written) == (ConnectionState.REFUSED, False, b"")
    it.transport.write(b"yes, ")
    it.transport.say_last()
    assert (it.state, it.socket.written, it.socket.done) == (ConnectionState.LINGERING, b"yes, no", ["write_eof"])


def test_a_refused_client_whose_answer_ends_the_connection_is_lingered_for_without_a_word(it: Ending) -> None:
    it.transport.refuse(b"no")
    it.transport.close()
    assert (it.state, it.socket.written, it.socket.done) == (ConnectionState.LINGERING, b"", ["write_eof"])


def test_a_socket_that_is_closed_already_is_not_lingered_on(it: Ending) -> None:
    it.socket.close()
    it.transport.refuse(b"no")
    it.transport.close()
    assert (it.edge.lingering, it.socket.done) == (0, ["close", "close"])


def test_what_was_written_must_be_read_after_the_close_too(it: Ending) -> None:
    it.socket.unread = 100_000
    it.transport.close()
    it.loop.run(100)
    assert it.socket.done == ["close", "abort"]


@pytest.mark.parametrize("arriving", [False, True])
def test_a_connection_that_was_lost_is_waited_for_no_more(it: Ending, *, arriving: bool) -> None:
    it.arriving, it.socket.unread = arriving, 100_000
    it.transport.close()
    it.transport.lost()
    done = list(it.socket.done)
    it.transport.close()
    it.loop.run(100)
    assert (it.socket.done, it.loop.waiting, it.edge.lingering) == (done, 0, 0)
    assert it.transport.is_closing()


def test_a_connection_that_was_lost_is_let_go_of() -> None:
    ending = Ending()
    transport, ended = ending.transport, weakref.ref(ending)
    transport.lost()
    del ending
    assert ended() is None
    transport.close()


def test_what_is_thrown_away_is_taken_at_the_edges_pace_until_the_connection_is_lost(it: Ending) -> None:
    it.transport.refuse(b"no")
    it.transport.discard(b"x" * (2**20 - 1))
    assert it.socket.done == []
    it.transport.discard(b"x")
    assert it.socket.done == ["pause_reading"]
    it.loop.run(1)
    assert it.socket.done == ["pause_reading", "resume_reading"]
    it.transport.discard(b"x" * 2**21)
    it.transport.lost()
    it.loop.run(10)
    assert it.socket.done == ["pause_reading", "resume_reading", "pause_reading"]
