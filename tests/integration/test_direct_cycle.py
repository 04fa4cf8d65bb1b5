"""Requests that are served without ASGI, over real sockets: framing, order, bounds, and the news of a hang-up."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

import pytest

from proxy.edge.connections import Connections
from proxy.edge.direct_cycle import DirectCycle
from proxy.edge.edge import Edge
from proxy.edge.forwarded import Networks, networks
from proxy.edge.guard import GuardedHttp
from proxy.http.listeners import Drain, bound, served
from tests.integration.test_guard import Echo
from tests.raw_http import RawClient, connected

WAIT_S_MAX = 10.0
PART = b"x" * 65_536
LARGE = 256


def post(*fields: bytes, path: bytes = b"/whole", body: bytes = b"", version: bytes = b"1.1") -> bytes:
    lines = [b"POST " + path + b" HTTP/" + version, b"Host: here", *fields, b"", body]
    return b"\r\n".join(lines)


def sized(path: bytes, body: bytes = b"hello") -> bytes:
    return post(b"Content-Length: %d" % len(body), path=path, body=body)


@dataclass
class Direct:
    """What is served in direct cycles, a path for each way to answer."""

    cycles: list[DirectCycle] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    told_gone: int = 0
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    written: int = 0
    paused: asyncio.Event = field(default_factory=asyncio.Event)

    async def whole(self, cycle: DirectCycle) -> None:
        """Answer the body as it came, at once."""
        body = await self.body(cycle)
        if not cycle.disconnected:
            cycle.reply(201, b"x-asked: %b\r\n" % cycle.fields.get(b"x-ask", b"-"), body)

    async def parts(self, cycle: DirectCycle) -> None:
        """Answer the body three times."""
        body = await self.body(cycle)
        cycle.begin(200, b"", body)
        cycle.write(body)
        cycle.write(b"")
        cycle.finish(body)

    async def large(self, cycle: DirectCycle) -> None:
        """Answer more at once than the kernel takes."""
        cycle.take()
        cycle.reply(200, b"", PART * LARGE)

    async def sliced(self, cycle: DirectCycle) -> None:
        """Answer the same in parts, with its length."""
        cycle.take()
        cycle.begin(200, b"", PART, len(PART) * LARGE)
        for _ in range(LARGE - 2):
            cycle.write(PART)
        cycle.finish(PART)

    async def where(self, cycle: DirectCycle) -> None:
        """Answer where the client is."""
        cycle.take()
        cycle.reply(200, b"", cycle.address.encode())

    async def unread(self, cycle: DirectCycle) -> None:
        """Answer before the body has come."""
        cycle.reply(413, b"", b"too large")

    async def waits(self, cycle: DirectCycle) -> None:
        """Answer once it may, unless the client is gone before."""
        await self.body(cycle)
        ended = asyncio.ensure_future(self.may_end.wait())

        def tell() -> None:
            self.told_gone += 1
            self.gone.set()
            ended.cancel()

        cycle.on_gone(tell)
        self.begun.set()
        await asyncio.wait([ended])
        cycle.on_gone(None)
        cycle.reply(200, b"", b"late")

    async def floods(self, cycle: DirectCycle) -> None:
        """Write without end to who reads, and wait for who does not."""
        cycle.begin(200, b"", PART)
        while not cycle.disconnected and self.written < 2**26:
            cycle.write(PART)
            self.written += len(PART)
            if not cycle.writable:
                self.paused.set()
                await cycle.drained()
        cycle.finish(b"")
        self.gone.set()

    async def half(self, cycle: DirectCycle) -> None:
        """Leave an answer without its end."""
        cycle.begin(200, b"", b"half")

    async def fails(self, cycle: DirectCycle) -> None:
        """Fail before anything is said."""
        raise LookupError

    async def body(self, cycle: DirectCycle) -> bytes:
        self.cycles.append(cycle)
        body = cycle.take()
        while cycle.more_body and not cycle.disconnected:
            await cycle.news()
            body += cycle.take()
        return body


@dataclass
class Listening:
    """A listener that runs."""

    port: int
    direct: Direct
    edge: Edge

    def connected(self) -> AbstractAsyncContextManager[RawClient]:
        return connected("127.0.0.1", self.port)

    async def emptied(self) -> None:
        """Wait until no connection is left."""
        async with asyncio.timeout(WAIT_S_MAX):
            while self.edge.connections.total:  # noqa: ASYNC110 (the other side's closing has no event here)
                await asyncio.sleep(0.005)


@asynccontextmanager
async def listening(
    *, write_s_max: float = 60.0, keep_alive_s: float = 75.0, trusted: Networks = ()
) -> AsyncIterator[Listening]:
    direct = Direct()
    serving = (
        direct.where,
        direct.whole,
        direct.parts,
        direct.large,
        direct.sliced,
        direct.unread,
        direct.waits,
        direct.floods,
    )
    paths = {b"/" + serve.__name__.encode(): serve for serve in (*serving, direct.half, direct.fails)}
    connections = Connections(100, 100)
    edge = Edge(
        connections=connections, head_s_max=10.0, write_s_max=write_s_max, direct=paths, trusted_proxies=trusted
    )
    with bound("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        async with served(Echo(), sock, edge, drain=Drain(s_max=1), keep_alive_s=keep_alive_s):
            yield Listening(port, direct, edge)


async def within(waiting: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not waiting():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.005)


# --- answers


FORWARDED = b"X-Forwarded-For: "


@pytest.mark.parametrize(
    ("trusted", "fields", "address"),
    [
        ("127.0.0.0/8", [], b"127.0.0.1"),
        ("127.0.0.0/8", [FORWARDED + b"198.51.100.1, 203.0.113.9"], b"203.0.113.9"),
        ("127.0.0.0/8", [FORWARDED + b"198.51.100.1", FORWARDED + b"203.0.113.9"], b"203.0.113.9"),
        ("10.0.0.0/8", [FORWARDED + b"203.0.113.9"], b"127.0.0.1"),
        (None, [FORWARDED + b"203.0.113.9"], b"127.0.0.1"),
    ],
    ids=["says nothing", "the rightmost", "on lines of their own", "another network", "nobody is trusted"],
)
async def test_a_client_is_where_a_trusted_proxy_says(trusted: str | None, fields: list[bytes], address: bytes) -> None:
    believed = networks([trusted] if trusted else [])
    async with listening(trusted=believed) as here, here.connected() as client:
        asked = post(b"Content-Length: 0", *fields, path=b"/where")
        assert (await client.ask(asked)).body == address
        asgi = b"GET /client HTTP/1.1\r\nHost: here\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n"
        assert (await client.ask(asgi)).headers["x-client"] == address.decode()
        assert (await client.ask(post(b"Content-Length: 0", path=b"/where"))).body == b"127.0.0.1"


async def test_an_answer_in_parts_may_have_its_length_too() -> None:
    async with listening() as here, here.connected() as client:
        for _ in range(2):
            answer = await client.ask(sized(b"/sliced", b""))
            assert (answer.headers["content-length"], len(answer.body)) == (str(len(PART) * LARGE), len(PART) * LARGE)
            assert "transfer-encoding" not in answer.headers


async def test_a_whole_answer_has_its_length_and_the_connection_is_kept() -> None:
    async with listening() as here, here.connected() as client:
        for _ in range(3):
            answer = await client.ask(post(b"X-Ask:  A ", b"Content-Length: 5", body=b"hello"))
            assert parsedate_to_datetime(answer.headers.pop("date")).tzinfo is not None
            assert (answer.status, answer.headers) == (201, {"x-asked": "A", "content-length": "5"})
            assert answer.body == b"hello"


async def test_an_answer_in_parts_is_chunked_and_the_connection_is_kept() -> None:
    async with listening() as here, here.connected() as client:
        for _ in range(3):
            answer = await client.ask(sized(b"/parts"))
            assert "date" in answer.headers
            assert (answer.status, answer.headers["transfer-encoding"]) == (200, "chunked")
            assert answer.body == b"hello" * 3


async def test_empty_parts_do_not_end_an_answer() -> None:
    async with listening() as here, here.connected() as client:
        assert (await client.ask(sized(b"/parts", b""))).body == b""
        assert (await client.ask(sized(b"/whole", b""))).headers["content-length"] == "0"


async def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection() -> None:
    async with listening() as here, here.connected() as client:
        await client.send(post(b"Content-Length: 5", path=b"/parts", body=b"hello", version=b"1.0"))
        answer = await client.closed()
        head, body = answer.split(b"\r\n\r\n")
        assert (b"transfer-encoding" in head, b"connection: close" in head, body) == (False, True, b"hello" * 3)


@pytest.mark.parametrize("path", [b"/whole", b"/parts"])
async def test_who_asks_for_the_connections_end_gets_it(path: bytes) -> None:
    async with listening() as here, here.connected() as client:
        answer = await client.ask(post(b"Connection: close", b"Content-Length: 5", path=path, body=b"hello"))
        assert answer.headers["connection"] == "close"
        assert await client.closed() == b""


@pytest.mark.parametrize("path", [b"/whole?a=/parts", b"/%77hole", b"/w%68ole?b"])
async def test_a_path_is_the_same_however_it_is_written(path: bytes) -> None:
    async with listening() as here, here.connected() as client:
        assert (await client.ask(sized(path))).status == 201


async def test_other_methods_and_paths_go_to_the_application() -> None:
    async with listening() as here, here.connected() as client:
        for raw in (b"GET /whole HTTP/1.1\r\nHost: here\r\n\r\n", sized(b"/wholes"), sized(b"/")):
            assert (await client.ask(raw)).status == 200
        assert (await client.ask(b"PUT /whole HTTP/1.1\r\nHost: here\r\n\r\n")).json["method"] == "PUT"


@pytest.mark.parametrize("path", [b"/half", b"/fails"])
async def test_who_leaves_an_answer_unended_loses_the_connection(path: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    async with listening() as here, here.connected() as client:
        await client.send(sized(path))
        said = await client.closed()
        assert not said.endswith(b"0\r\n\r\n")
        await here.emptied()
    assert [record.getMessage() for record in caplog.records] == ["request_failed"] * (path == b"/fails")


async def test_a_connection_that_ended_leaves_nothing_to_the_garbage_collector() -> None:
    async with listening() as here:
        gc.collect()
        gc.disable()
        gc.freeze()  # or a look would go through all that the suite ever made
        try:
            for path in (b"/whole", b"/parts", b"/echo"):
                async with here.connected() as client:
                    await client.ask(sized(path))
            await here.emptied()
            here.direct.cycles.clear()
            await within(lambda: not any(isinstance(each, GuardedHttp) for each in gc.get_objects()))
        finally:
            gc.unfreeze()
            gc.enable()


# --- one after the other


async def test_pipelined_requests_are_answered_in_order_whoever_serves_them() -> None:
    raw = [sized(b"/whole", b"%d" % n) if n % 3 else sized(b"/echo", b"%d" % n) for n in range(16)]
    async with listening() as here, here.connected() as client:
        await client.send(b"".join(raw))
        answers = [await client.answer() for _ in raw]
        assert [each.body if each.status == 201 else each.json["body"].encode() for each in answers] == [
            b"%d" % n for n in range(16)
        ]


async def test_a_hang_up_reaches_the_request_that_runs_and_begins_none_behind_it() -> None:
    async with listening() as here:
        async with here.connected() as client:
            await client.send(sized(b"/waits") * 3)
            await here.direct.begun.wait()
        async with asyncio.timeout(WAIT_S_MAX):
            await here.direct.gone.wait()
        await here.emptied()
        assert (here.direct.told_gone, len(here.direct.cycles)) == (1, 1)


async def test_a_hang_up_is_heard_behind_requests_that_came_while_another_was_answered() -> None:
    async with listening() as here:
        async with here.connected() as client:
            await client.send(sized(b"/waits"))
            await here.direct.begun.wait()
            for path in (b"/waits", b"/echo", b"/whole"):
                await client.send(sized(path))
                await asyncio.sleep(0.02)
        async with asyncio.timeout(WAIT_S_MAX):
            await here.direct.gone.wait()
        await here.emptied()
        assert (here.direct.told_gone, len(here.direct.cycles)) == (1, 1)


async def test_little_is_read_ahead_of_an_answer_and_all_of_it_in_the_end() -> None:
    async with listening() as here, here.connected() as client:
        await client.send(sized(b"/waits"))
        await here.direct.begun.wait()
        client.writer.write(sized(b"/whole", PART * LARGE))
        await asyncio.sleep(0.5)
        unsent = client.writer.transport.get_write_buffer_size
        before = unsent()
        await asyncio.sleep(0.2)
        assert 0 < unsent() == before, "the kernel's buffers are full: the gateway reads no more"
        here.direct.may_end.set()
        assert (await client.answer()).body == b"late"
        assert (await client.answer()).body == PART * LARGE


async def test_a_stop_lets_the_running_answer_end_and_begins_none_behind_it() -> None:
    async with connected_to_stopping() as (here, client):
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.closed() == b""
        assert len(here.direct.cycles) == 1


@asynccontextmanager
async def connected_to_stopping() -> AsyncIterator[tuple[Listening, RawClient]]:
    async with listening() as here:
        connecting = here.connected()
        client = await connecting.__aenter__()
        await client.send(sized(b"/waits") * 3)
        await here.direct.begun.wait()
        asyncio.get_running_loop().call_later(0.3, here.direct.may_end.set)
    yield here, client
    await connecting.__aexit__(None, None, None)


# --- bodies


@pytest.mark.parametrize("size", [1, 7, 300])
async def test_a_body_that_comes_bit_by_bit(size: int) -> None:
    async with listening() as here, here.connected() as client:
        raw = sized(b"/whole", bytes(range(256)))
        for start in range(0, len(raw), size):
            await client.send(raw[start : start + size])
            await asyncio.sleep(0)
        assert (await client.answer()).body == bytes(range(256))


async def test_a_large_body_in_chunks() -> None:
    chunks = b"".join(b"%x\r\n" % 1000 + b"y" * 1000 + b"\r\n" for _ in range(2_000))
    async with listening() as here, here.connected() as client:
        answer = await client.ask(post(b"Transfer-Encoding: chunked", body=chunks + b"0\r\n\r\n"))
        assert answer.body == b"y" * 2_000_000
        assert (await client.ask(sized(b"/whole"))).status == 201


async def test_a_client_that_expects_100_is_told_to_go_on_when_its_body_is_waited_for() -> None:
    async with listening() as here, here.connected() as client:
        expecting = post(b"Expect: 100-continue", b"Content-Length: 5")
        assert (await client.ask(expecting)).status == 100
        assert (await client.ask(b"hello")).body == b"hello"
        assert (await client.ask(expecting + b"hello")).status == 201


async def test_an_answer_before_the_body_has_come_ends_the_connection_and_is_seen() -> None:
    async with listening() as here, here.connected() as client:
        await client.send(post(b"Content-Length: 50000000", path=b"/unread"))
        for _ in range(64):
            client.writer.write(PART)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        await here.emptied()


async def test_a_broken_body_ends_its_request_and_is_told() -> None:
    async with listening() as here, here.connected() as client:
        await client.send(post(b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n"))
        await within(lambda: here.direct.cycles)
        answer = await client.ask(b"oops\r\n")
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert here.direct.cycles[0].disconnected
        await here.emptied()


async def test_a_client_that_leaves_while_it_sends() -> None:
    async with listening() as here:
        async with here.connected() as client:
            await client.send(post(b"Content-Length: 5", body=b"he"))
            await within(lambda: here.direct.cycles)
        await here.emptied()
        assert here.direct.cycles[0].disconnected


# --- clients that do not read, and that leave


async def test_a_reader_that_stalls_is_waited_for_and_little_is_kept_for_it() -> None:
    async with listening() as here, here.connected() as client:
        client.writer.write(sized(b"/floods"))
        async with asyncio.timeout(WAIT_S_MAX):
            await here.direct.paused.wait()
            await asyncio.sleep(0.2)
            assert here.direct.written < 2**25
            read = 0
            while read < 2**26:
                read += len(await client.reader.read(2**20))


@pytest.mark.parametrize("field", [b"Connection: close", b"Connection: keep-alive"])
async def test_a_reader_that_stalls_behind_a_whole_answer_is_dropped(field: bytes) -> None:
    async with listening(write_s_max=0.3, keep_alive_s=0.1) as here, here.connected() as client:
        await client.send(post(b"Content-Length: 0", field, path=b"/large"))
        await here.emptied()


async def test_a_reader_that_is_slow_has_the_whole_answer() -> None:
    async with listening(write_s_max=1.2, keep_alive_s=0.1) as here, here.connected() as client:
        await client.send(post(b"Content-Length: 0", b"Connection: close", path=b"/large"))
        read = 0
        while part := await client.reader.read(2**19):
            read += len(part)
            await asyncio.sleep(0.02)
        assert read > len(PART) * LARGE
        await here.emptied()


async def test_a_reader_that_stalls_and_leaves_is_not_waited_for() -> None:
    async with listening() as here:
        async with here.connected() as client:
            client.writer.write(sized(b"/floods"))
            async with asyncio.timeout(WAIT_S_MAX):
                await here.direct.paused.wait()
        async with asyncio.timeout(WAIT_S_MAX):
            await here.direct.gone.wait()
        await here.emptied()
        assert here.direct.written < 2**26


async def test_to_a_client_that_is_gone_nothing_is_written() -> None:
    async with listening() as here:
        async with here.connected() as client:
            await client.send(sized(b"/waits"))
            await here.direct.begun.wait()
        await here.emptied()
        (cycle,) = here.direct.cycles
        cycle.begin(200, b"", b"x")
        cycle.write(b"x")
        cycle.finish(b"x")
        assert (cycle.response_started, cycle.response_complete) == (False, False)
