"""A connection is fed bytes as a socket would, cut anywhere."""

import asyncio
import gc
import os
import weakref
from contextlib import suppress
from typing import Any, cast

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.wire import connection
from engine.wire.connection import UpstreamConnection

QUIET, _ = os.pipe()
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nx-late: 1\r\n\r\n"


class Socket:
    """What asyncio would give the protocol: remembers what is done with it."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name: str) -> int | None:
        return QUIET if name == "socket" else None


def asked() -> tuple[UpstreamConnection, Socket]:
    """Return a connection on which a request was written."""
    opened, socket = UpstreamConnection(), Socket()
    opened.connection_made(cast("Any", socket))
    opened.write(b"GET / HTTP/1.1\r\n\r\n")
    return opened, socket


async def whole(opened: UpstreamConnection) -> tuple[int, bytes]:
    await opened.head()
    parts: list[bytes] = []
    await opened.pour(parts.append)
    return opened.status, b"".join(parts)


@pytest.mark.parametrize(("answer", "body"), [(PLAIN, b"hello"), (CHUNKED, b"hello world")])
async def test_an_answer_is_the_same_wherever_it_is_cut(answer: bytes, body: bytes) -> None:
    for size in range(1, len(answer) + 1):
        opened, socket = asked()
        for at in range(0, len(answer), size):
            opened.data_received(answer[at : at + size])
        assert await whole(opened) == (200, body)
        assert opened.usable
        assert socket.written == b"GET / HTTP/1.1\r\n\r\n"
        assert (b"x-late", b"1") not in opened.headers, "a trailer is no header"


async def test_one_answer_after_the_other_comes_over_the_same_connection() -> None:
    opened, _ = asked()
    for answer, body in [(PLAIN, b"hello"), (CHUNKED, b"hello world"), (PLAIN, b"hello")]:
        opened.data_received(answer)
        assert await whole(opened) == (200, body)
        assert opened.usable
        opened.write(b"GET / HTTP/1.1\r\n\r\n")


async def test_a_preliminary_answer_is_passed_over() -> None:
    opened, _ = asked()
    opened.data_received(b"HTTP/1.1 100 Continue\r\nx-a: 1\r\n\r\n")
    assert not opened.headers
    opened.data_received(PLAIN)
    assert await whole(opened) == (200, b"hello")


async def test_a_replica_that_changes_the_protocol_is_a_fault() -> None:
    opened, socket = asked()
    opened.data_received(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nPRI")
    with pytest.raises(httpx.RemoteProtocolError):
        await opened.head()
    assert socket.aborted


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    opened, _ = asked()
    opened.data_received(b"HTTP/1.1 200 OK\r\n\r\nhel")
    opened.data_received(b"lo")
    opened.connection_lost(None)
    assert await whole(opened) == (200, b"hello")
    assert not opened.usable


@pytest.mark.parametrize("cut", range(len(CHUNKED)))
async def test_an_answer_that_breaks_off_is_a_fault(cut: int) -> None:
    opened, _ = asked()
    if cut:
        opened.data_received(CHUNKED[:cut])
    opened.connection_lost(None)
    with pytest.raises(httpx.TransportError):
        await whole(opened)
    assert opened.heard is (cut > 0)
    assert not opened.usable


async def test_one_that_the_replica_closes_is_not_kept() -> None:
    opened, _ = asked()
    opened.data_received(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello")
    assert await whole(opened) == (200, b"hello")
    assert not opened.usable


async def test_bytes_that_nobody_asked_for_close_it() -> None:
    opened, socket = asked()
    opened.data_received(PLAIN)
    await whole(opened)
    opened.data_received(b"HTTP/1.1 200 OK\r\n")
    assert socket.aborted
    assert not opened.usable


async def test_more_than_an_answer_changes_nothing_of_it_and_ends_the_connection() -> None:
    opened, _ = asked()
    opened.data_received(PLAIN + b"HTTP/1.1 500 No\r\nx-b: 1\r\ncontent-length: 2\r\n\r\nno")
    assert await whole(opened) == (200, b"hello")
    assert len(opened.headers) == 2
    assert not opened.usable


async def test_a_head_that_never_ends_is_given_up() -> None:
    opened, socket = asked()
    opened.data_received(b"HTTP/1.1 200 OK\r\n")
    for _ in range(connection._HEAD_BYTES_MAX // 1000 + 1):
        opened.data_received(b"x-a: " + b"a" * 993 + b"\r\n")
    assert socket.aborted
    with pytest.raises(httpx.RemoteProtocolError):
        await opened.head()


async def test_what_nobody_reads_stops_the_replica() -> None:
    opened, socket = asked()
    size = connection._UNREAD_BYTES_MAX + 1
    opened.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * size) + b"a" * size)
    assert not socket.reading
    parts: list[bytes] = []
    pouring = asyncio.create_task(opened.pour(parts.append))
    await asyncio.sleep(0)
    assert [len(part) for part in parts] == [size]
    pouring.cancel()
    assert socket.reading


async def test_much_that_came_at_once_is_read_bit_by_bit() -> None:
    opened, _ = asked()
    chunk = b"3e8\r\n" + b"a" * 1_000 + b"\r\n"
    opened.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + 60 * chunk + b"0\r\n\r\n")
    await opened.head()
    parts: list[bytes] = []
    await opened.pour(parts.append)
    assert [len(part) for part in parts] == [32_000, 28_000]


async def test_a_part_is_handed_over_by_the_socket_itself_while_the_task_sleeps() -> None:
    opened, _ = asked()
    taken: list[bytes] = []
    opened.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na")
    pouring = asyncio.create_task(opened.pour(taken.append))
    await asyncio.sleep(0)
    assert taken == [b"a"]
    for part in (b"b", b"c"):
        opened.data_received(part)
        assert taken[-1] == part
    await pouring
    assert opened.usable


@pytest.mark.parametrize("late", [False, True])
async def test_whoever_gives_up_in_the_last_part_leaves_no_trace(*, late: bool) -> None:
    """Cancelled while what it took from had its end: the next request begins anew."""
    opened, _ = asked()
    taken: list[bytes] = []

    def take(part: bytes) -> Any:
        taken.append(part)
        if late:
            return lambda: asyncio.sleep(60)
        raise ValueError

    opened.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n")
    pouring = asyncio.create_task(opened.pour(take))
    await asyncio.sleep(0)
    opened.data_received(b"a")
    pouring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pouring
    opened.write(b"GET / HTTP/1.1\r\n\r\n")
    opened.data_received(PLAIN)
    await opened.pour(taken.append)
    assert taken == [b"a", b"hello"]


async def test_a_body_that_was_not_taken_to_its_end_spoils_the_connection() -> None:
    opened, _ = asked()
    opened.data_received(PLAIN)
    await opened.head()
    assert not opened.usable, "the next answer would begin with the rest of this one"


async def test_a_connection_that_was_given_up_leaves_nothing_to_the_garbage_collector() -> None:
    opened, _ = asked()
    opened.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")

    def refuse(_: bytes) -> None:
        raise ValueError

    pouring = asyncio.create_task(opened.pour(refuse))
    await asyncio.sleep(0)
    opened.data_received(b"a")
    with suppress(ValueError):
        await pouring
    opened.close()
    opened.connection_lost(None)
    left = weakref.ref(opened)
    gc.disable()
    try:
        del opened, pouring
        await asyncio.sleep(0)  # the event loop lets go of what it called back
        assert left() is None
    finally:
        gc.enable()


async def test_closing_wakes_whoever_waits() -> None:
    opened, socket = asked()
    waiting = asyncio.create_task(whole(opened))
    await asyncio.sleep(0)
    opened.close()
    with pytest.raises(httpx.ReadError):
        await waiting
    assert socket.aborted


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=200), max_size=8))
def test_no_bytes_raise_anything_but_a_fault(reads: list[bytes]) -> None:
    async def feed() -> None:
        opened, _ = asked()
        for data in reads:
            opened.data_received(data)
        opened.connection_lost(None)
        with suppress(httpx.TransportError):
            await whole(opened)

    asyncio.run(feed())
