"""The line to a replica against real sockets: what breaks is told as our fault, and what is left is closed."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx
import pytest

from engine.faults import ConnectFailed, ForeignAnswer, ResponseTooLarge, UpstreamBroken, UpstreamFault, UpstreamTimeout
from engine.wire.client import KEEPALIVE_S, DirectUpstream, Upstream
from engine.wire.transport import Transport
from tests.stock_transport import HttpxUpstream, StockTransport

DEADLINE_S = 10.0
MANY = 20_000
"""Kilobytes that no kernel buffers."""
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Peer:
    """One connection as the server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_request(self) -> bytes:
        """Return the head and body of the next request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return head + await self.reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%s\r\n" % (len(data), data))


@dataclass
class Served:
    """A raw server and whom it met."""

    url: str = ""
    server: asyncio.Server | None = None
    peers: list[Peer] = field(default_factory=list)


@asynccontextmanager
async def served(conversation: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[Served]:
    """Run `conversation` with everybody who connects; a conversation that failed fails the test."""
    met = Served()
    talks: list[asyncio.Task[None]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.append(task)
        peer = Peer(reader, writer)
        met.peers.append(peer)
        try:
            await conversation(peer)
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    met.server = server
    met.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield met
            await asyncio.gather(*talks)
    finally:
        server.close()


KINDS = ["ours", "stock"]


def upstream_over(kind: str, keepalive_s: float = KEEPALIVE_S) -> DirectUpstream | HttpxUpstream:
    """Return an upstream over our transport, or over httpx's own."""
    if kind == "stock":
        return HttpxUpstream(2.0, StockTransport(keepalive_s))
    return DirectUpstream(2.0, Transport(keepalive_s=keepalive_s, connections_max=100))


@pytest.fixture(params=KINDS)
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    async with upstream_over(request.param) as opened:
        yield opened


async def whole(upstream: Upstream, url: str, bytes_max: int = 1_000) -> tuple[int, bytes]:
    async with upstream.request("POST", url + "/v1/x", fields=b"x-request-id: R\r\n", body=b"{}") as response:
        return response.status, await response.read(bytes_max)


async def test_a_request_arrives_and_its_answer_comes_back(upstream: Upstream) -> None:
    requests: list[bytes] = []

    async def conversation(peer: Peer) -> None:
        requests.append(await peer.read_request())
        await peer.write(b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nno, 5")

    async with served(conversation) as met:
        assert await whole(upstream, met.url) == (404, b"no, 5")
    assert requests[0].startswith(b"POST /v1/x HTTP/1.1\r\n")
    assert b"x-request-id: r\r\n" in requests[0].lower()
    assert requests[0].endswith(b"\r\n\r\n{}")


async def test_a_request_counts_as_sent_only_once_it_is_written(upstream: Upstream) -> None:
    told: list[str] = []

    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with (
        served(conversation) as met,
        upstream.request("POST", met.url, sent=lambda: told.append("sent")) as response,
    ):
        assert told == ["sent"]
        await response.read(0)
    async with served(conversation) as gone:
        pass
    with pytest.raises(ConnectFailed):
        async with upstream.request("POST", gone.url, sent=lambda: told.append("sent again")):
            pass
    assert told == ["sent"]


async def test_chunks_arrive_as_they_are_sent(upstream: Upstream) -> None:
    seen = [asyncio.Event(), asyncio.Event()]

    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(STREAM_HEAD)
        for event in seen:
            await peer.chunk(b"data: 1\n\n")
            # Nothing more is sent before the last chunk has been read.
            await event.wait()
        await peer.write(b"0\r\n\r\n")

    async with served(conversation) as met, upstream.request("GET", met.url) as response:
        waiting = iter(seen)

        def take(chunk: bytes) -> None:
            assert chunk == b"data: 1\n\n"
            next(waiting).set()

        await response.pour(take)
        assert next(waiting, None) is None


async def test_nobody_listens(upstream: Upstream) -> None:
    async def conversation(_: Peer) -> None: ...

    async with served(conversation) as met:
        url = met.url
    with pytest.raises(ConnectFailed):
        await whole(upstream, url)


async def closes_at_once(_: Peer) -> None: ...


async def closes_after_the_request(peer: Peer) -> None:
    await peer.read_request()


async def closes_in_the_body(peer: Peer) -> None:
    await peer.read_request()
    await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")


async def closes_in_a_stream(peer: Peer) -> None:
    # How a killed API process looks: FIN without the last chunk.
    await peer.read_request()
    await peer.write(STREAM_HEAD)
    await peer.chunk(b"data: 1\n\n")


async def speaks_no_http(peer: Peer) -> None:
    await peer.read_request()
    await peer.write(b"SSH-2.0-OpenSSH_9\r\n\r\n")


@pytest.mark.parametrize(
    "conversation",
    [closes_at_once, closes_after_the_request, closes_in_the_body, closes_in_a_stream, speaks_no_http],
    ids=lambda each: each.__name__,
)
async def test_a_replica_that_breaks_off(upstream: Upstream, conversation: Callable[[Peer], Awaitable[None]]) -> None:
    with pytest.raises(UpstreamBroken):
        async with served(conversation) as met:
            await whole(upstream, met.url)


async def test_a_body_is_bounded_while_it_is_read(upstream: Upstream) -> None:
    closed = asyncio.Event()

    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(STREAM_HEAD)
        try:
            while True:
                await peer.chunk(b"x" * 1_000)
        except ConnectionError:
            closed.set()

    async with served(conversation) as met:
        with pytest.raises(ResponseTooLarge):
            await whole(upstream, met.url, bytes_max=10_000)
        await closed.wait()


class Enough(Exception):
    """What whoever takes a body raises to end it."""


def enough(_: bytes) -> None:
    raise Enough


async def test_what_is_poured_comes_in_order_and_leaves_the_connection_usable(upstream: Upstream) -> None:
    numbers = [b"%d," % number for number in range(2_000)]

    async def conversation(peer: Peer) -> None:
        for _ in range(2):
            await peer.read_request()
            await peer.write(STREAM_HEAD)
            for number in numbers:
                await peer.chunk(number)
            await peer.write(b"0\r\n\r\n")

    async with served(conversation) as met:
        for _ in range(2):
            taken: list[bytes] = []
            async with upstream.request("POST", met.url) as response:
                await response.pour(taken.append)
            assert b"".join(taken) == b"".join(numbers)
    assert len(met.peers) == 1


async def test_nothing_is_handed_over_while_whoever_takes_it_waits(upstream: Upstream) -> None:
    written = 0
    taken: list[int] = []
    stalled, go_on = asyncio.Event(), asyncio.Event()

    async def conversation(peer: Peer) -> None:
        nonlocal written
        await peer.read_request()
        await peer.write(STREAM_HEAD)
        for _ in range(MANY):
            await peer.chunk(b"x" * 1_000)
            written += 1
        await peer.write(b"0\r\n\r\n")

    async def wait() -> None:
        stalled.set()
        await go_on.wait()

    def take(part: bytes) -> Callable[[], Awaitable[None]] | None:
        taken.append(len(part))
        return None if go_on.is_set() else wait

    async with served(conversation) as met, upstream.request("POST", met.url) as response:
        pouring = asyncio.create_task(response.pour(take))
        await stalled.wait()
        before = -1
        while before != written:
            before = written
            await asyncio.sleep(0.1)
        assert len(taken) == 1
        assert written < MANY, "the replica has to wait too"
        go_on.set()
        await pouring
    assert sum(taken) == 1_000 * MANY


@pytest.mark.parametrize("parts", [1, 2, 3])
async def test_what_whoever_takes_a_body_raises_ends_it(upstream: Upstream, parts: int) -> None:
    """However far it has come: in the head's own read, or later."""
    taken = [asyncio.Event() for _ in range(3)]
    count = 0

    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(STREAM_HEAD)
        for event in taken[:parts]:
            await peer.chunk(b"data: 1\n\n")
            await event.wait()
        assert await peer.reader.read() == b""

    def take(_: bytes) -> None:
        nonlocal count
        taken[count].set()
        count += 1
        if count == parts:
            raise Enough

    async with served(conversation) as met:
        with pytest.raises(Enough):
            async with upstream.request("POST", met.url) as response:
                await response.pour(take)
    assert count == parts


async def test_what_is_raised_by_a_wait_ends_it_too(upstream: Upstream) -> None:
    async def conversation(peer: Peer) -> None:
        await closes_in_a_stream(peer)

    async def fails() -> None:
        raise Enough

    async with served(conversation) as met:
        with pytest.raises(Enough):
            async with upstream.request("POST", met.url) as response:
                await response.pour(lambda _: fails)


@pytest.mark.parametrize("waits", [False, True], ids=["asleep", "waiting"])
async def test_cancelling_whoever_pours_closes_the_connection(upstream: Upstream, *, waits: bool) -> None:
    taken: asyncio.Queue[bytes] = asyncio.Queue()
    hung_up = asyncio.Event()

    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(STREAM_HEAD)
        await peer.chunk(b"data: 1\n\n")
        with suppress(ConnectionError):
            assert await peer.reader.read() == b""
        hung_up.set()

    def take(part: bytes) -> Callable[[], Awaitable[object]] | None:
        taken.put_nowait(part)
        return asyncio.Event().wait if waits else None

    async def pour() -> None:
        async with upstream.request("POST", met.url) as response:
            await response.pour(take)

    async with served(conversation) as met:
        pouring = asyncio.create_task(pour())
        await taken.get()
        pouring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pouring
        await hung_up.wait()


async def test_leaving_the_block_closes_the_connection(upstream: Upstream) -> None:
    hung_up = asyncio.Event()

    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(STREAM_HEAD)
        await peer.chunk(b"data: 1\n\n")
        assert await peer.reader.read() == b""
        hung_up.set()

    async with served(conversation) as met:
        with pytest.raises(Enough):
            async with upstream.request("POST", met.url) as response:
                await response.pour(enough)
        await hung_up.wait()


async def test_a_cancelled_wait_closes_the_connection(upstream: Upstream) -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        asked.set()
        assert await peer.reader.read() == b""
        hung_up.set()

    async with served(conversation) as met:
        waiting = asyncio.create_task(whole(upstream, met.url))
        await asked.wait()
        waiting.cancel()
        await hung_up.wait()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def answers_forever(peer: Peer) -> None:
    while True:
        try:
            await peer.read_request()
        except asyncio.IncompleteReadError:
            return
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_that_was_read_to_its_end_is_used_again(kind: str) -> None:
    async with served(answers_forever) as met:
        async with upstream_over(kind) as upstream:
            for _ in range(3):
                assert (await whole(upstream, met.url))[1] == b"ok"
        assert len(met.peers) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_that_vllm_may_have_closed_is_not_used_again(kind: str) -> None:
    assert KEEPALIVE_S < 5.0
    async with served(answers_forever) as met:
        async with upstream_over(kind, keepalive_s=0.0) as upstream:
            for _ in range(2):
                await whole(upstream, met.url)
        assert len(met.peers) == 2


async def test_no_more_connections_than_the_bound_are_opened_at_once() -> None:
    answered = asyncio.Event()

    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        await answered.wait()
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with (
        served(conversation) as met,
        DirectUpstream(2.0, Transport(keepalive_s=KEEPALIVE_S, connections_max=3)) as upstream,
    ):
        asked = [asyncio.create_task(whole(upstream, met.url)) for _ in range(5)]
        refused = await asyncio.gather(*asked[3:], return_exceptions=True)
        assert all(isinstance(fault, ConnectFailed) for fault in refused)
        answered.set()
        assert await asyncio.gather(*asked[:3]) == [(200, b"ok")] * 3
    assert len(met.peers) == 3


@pytest.mark.parametrize("ending", ["FIN", "RST"])
async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced_by_a_fresh_one(
    upstream: Upstream, ending: str
) -> None:
    """As when vLLM's idle close crosses a request: it is read by nobody."""
    told: list[str] = []

    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        if peer is not met.peers[0]:
            return
        await peer.read_request()
        if ending == "RST":
            sock = peer.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with served(conversation) as met:
        assert await whole(upstream, met.url) == (200, b"ok")
        async with upstream.request("POST", met.url, sent=lambda: told.append("sent")) as response:
            assert await response.read(2) == b"ok"
    assert len(met.peers) == 2
    assert told == ["sent", "sent"], "the replica may have worked for the first of them"


async def test_a_fresh_connection_that_is_closed_is_not_tried_again(upstream: Upstream) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        if peer is met.peers[0]:
            await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            await peer.read_request()

    async with served(conversation) as met:
        await whole(upstream, met.url)
        with pytest.raises(UpstreamBroken):
            await whole(upstream, met.url)
    assert len(met.peers) == 2


async def test_a_kept_connection_on_which_something_came_is_not_tried_again(upstream: Upstream) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await speaks_no_http(peer)

    async with served(conversation) as met:
        await whole(upstream, met.url)
        with pytest.raises(UpstreamBroken):
            await whole(upstream, met.url)
    assert len(met.peers) == 1


LATE = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate"


@pytest.mark.parametrize("unasked", [LATE, b"\r\n"], ids=["answer", "blank"])
async def test_what_came_on_a_kept_connection_that_nobody_asked_for_is_never_an_answer(
    upstream: Upstream, unasked: bytes
) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        if peer is met.peers[0]:
            with suppress(ConnectionResetError):
                assert await peer.reader.read() == b"", "nothing was asked on it again"

    async with served(conversation) as met:
        await whole(upstream, met.url)
        # In the socket, and not read by the event loop: nothing is awaited until the request is on its way.
        met.peers[0].writer.write(unasked)
        assert await whole(upstream, met.url) == (200, b"ok")
    assert len(met.peers) == 2


async def test_the_connection_of_another_requests_answer_is_not_used_again() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        assert await peer.reader.read() == b"", "it was closed"

    async def refuse(upstream: Upstream, url: str) -> None:
        async with upstream.request("POST", url) as response:
            await response.read(2)
            raise ForeignAnswer

    async with upstream_over("ours") as upstream, served(conversation) as met:
        for _ in range(2):
            with pytest.raises(ForeignAnswer):
                await refuse(upstream, met.url)
    assert len(met.peers) == 2


async def test_a_replica_that_is_gone_is_found_gone(upstream: Upstream) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await peer.read_request()
        assert met.server is not None
        met.server.close()

    async with served(conversation) as met:
        await whole(upstream, met.url)
        with pytest.raises(ConnectFailed):
            await whole(upstream, met.url)


def subclasses(kind: type[httpx.TransportError]) -> Iterator[type[httpx.TransportError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from subclasses(narrower)


EXPECTED: dict[type[httpx.TransportError], type[UpstreamFault]] = {
    httpx.ConnectError: ConnectFailed,
    httpx.ConnectTimeout: ConnectFailed,
    httpx.PoolTimeout: ConnectFailed,
    httpx.TimeoutException: UpstreamTimeout,
    httpx.ReadTimeout: UpstreamTimeout,
    httpx.WriteTimeout: UpstreamTimeout,
}
"""Every other one is a broken upstream."""


class Failing(httpx.AsyncBaseTransport):
    """Raises what it is told to, instead of an answer or in its body."""

    def __init__(self, kind: type[httpx.TransportError], where: str) -> None:
        self._kind = kind
        self._where = where

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._where == "head":
            raise self._kind("secret")
        return httpx.Response(200, content=self._body())

    async def _body(self) -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        raise self._kind("secret")


@pytest.mark.parametrize("kind", list(subclasses(httpx.TransportError)), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("where", ["head", "body"])
async def test_every_error_of_the_transport_is_one_of_ours(kind: type[httpx.TransportError], where: str) -> None:
    async with HttpxUpstream(1.0, Failing(kind, where)) as upstream:
        with pytest.raises(UpstreamFault) as caught:
            await whole(upstream, "http://replica")
    assert type(caught.value) is EXPECTED.get(kind, UpstreamBroken)
    assert "secret" not in str(caught.value)
