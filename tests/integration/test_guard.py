"""The guard over real sockets: each shape that is refused, each bound, and that the pinned server is still the one."""

import ast
import asyncio
import inspect
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httptools
import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxy.edge import cycles, guard, head, parser
from proxy.edge.connections import Connections
from proxy.edge.cycles import CyclesInOrder
from proxy.edge.direct_cycle import DirectCycle
from proxy.edge.edge import Edge
from proxy.edge.guard import GuardedHttp
from proxy.edge.parser import RequestParser
from proxy.http.listeners import Drain, bound, served
from tests.raw_http import RawClient, connected

GET = b"GET /echo HTTP/1.1\r\nHost: here\r\n\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(*fields: bytes, body: bytes = b"", target: bytes = b"/echo", version: bytes = b"1.1") -> bytes:
    lines = [b"POST " + target + b" HTTP/" + version, b"Host: here", *fields, b"", body]
    return b"\r\n".join(lines)


@dataclass
class Echo:
    """An application that says what it was asked, once the test lets it."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
        asked = {"method": scope["method"], "path": scope["path"], "headers": headers, "body": ""}
        self.asked.append(asked)
        self.begun.set()
        await self._serve(scope, receive, send, asked)
        if asked["path"] in self.gone:
            self.left.set()

    async def _serve(self, scope: Any, receive: Any, send: Any, asked: dict[str, Any]) -> None:
        more = scope["path"] != "/unread"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.append(scope["path"])
                return
            asked["body"] += message["body"].decode("latin-1")
            more = message["more_body"]
        if scope["path"] == "/waits":
            gone = asyncio.ensure_future(receive())
            ready = asyncio.ensure_future(self.may_answer.wait())
            await asyncio.wait([gone, ready], return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if gone.done():
                self.gone.append(scope["path"])
                return
            gone.cancel()
        body = json.dumps(asked).encode()
        headers = [(b"content-length", str(len(body)).encode()), (b"x-client", scope["client"][0].encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass
class Listening:
    """A guarded listener that runs."""

    port: int
    app: Echo
    edge: Edge
    refusals: list[str]

    def connected(self) -> AbstractAsyncContextManager[RawClient]:
        return connected("127.0.0.1", self.port)

    async def emptied(self) -> None:
        """Wait until no connection is left."""
        async with asyncio.timeout(10):
            while self.edge.connections.total:  # noqa: ASYNC110 (the other side's closing has no event here)
                await asyncio.sleep(0.005)


@asynccontextmanager
async def listening(
    total_max: int = 100, per_address_max: int = 100, head_s_max: float = 10.0, keep_alive_s: float = 75.0
) -> AsyncIterator[Listening]:
    app, refusals = Echo(), list[str]()
    connections = Connections(total_max, per_address_max)
    edge = Edge(connections=connections, head_s_max=head_s_max, refused=refusals.append)
    with bound("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        async with served(app, sock, edge, drain=Drain(s_max=1), keep_alive_s=keep_alive_s):
            yield Listening(port, app, edge, refusals)


HOSTILE: dict[str, tuple[bytes, int]] = {
    "length beside chunks": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "chunks beside length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), 400),
    "two equal lengths": (post(b"Content-Length: 5", b"Content-Length: 5", body=b"12345"), 400),
    "two lengths": (post(b"Content-Length: 5", b"Content-Length: 6", body=b"12345"), 400),
    "a list of lengths": (post(b"Content-Length: 5, 5", body=b"12345"), 400),
    "a signed length": (post(b"Content-Length: +5", body=b"12345"), 400),
    "a negative length": (post(b"Content-Length: -5", body=b"12345"), 400),
    "a hexadecimal length": (post(b"Content-Length: 0x5", body=b"12345"), 400),
    "a length beyond 64 bits": (post(b"Content-Length: 99999999999999999999999"), 400),
    "an empty length": (post(b"Content-Length:"), 400),
    "chunked twice": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "chunked listed twice": (post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), 400),
    "identity, chunked": (post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"), 400),
    "chunked, identity": (post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), 400),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 400),
    "xchunked": (post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 400),
    "an empty coding": (post(b"Transfer-Encoding:", body=b"0\r\n\r\n"), 400),
    "a coding behind a tab": (post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), 400),
    "chunked in quotes": (post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), 400),
    "chunked in 1.0": (post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", version=b"1.0"), 400),
    "a space before the colon": (post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), 400),
    "a folded line": (post(b"X: a\r\n b"), 400),
    "a folded line with a tab": (post(b"X: a\r\n\tb"), 400),
    "bare line feeds": (b"GET /echo HTTP/1.1\nHost: here\n\n", 400),
    "one bare line feed": (b"GET /echo HTTP/1.1\r\nHost: here\nX: b\r\n\r\n", 400),
    "a bare carriage return": (post(b"X: a\rY: b"), 400),
    "a NUL in a value": (post(b"X: a\0b"), 400),
    "a control byte in a value": (post(b"X: a\x01b"), 400),
    "a NUL in a name": (post(b"X\0Y: a"), 400),
    "a bracket in a name": (post(b"X(: a"), 400),
    "a space in a name": (post(b"X Y: a"), 400),
    "no name": (post(b": a"), 400),
    "no colon": (post(b"nothing"), 400),
    "an odd method": (b"G@T /echo HTTP/1.1\r\nHost: here\r\n\r\n", 400),
    "an unknown method": (b"FOO /echo HTTP/1.1\r\nHost: here\r\n\r\n", 400),
    "a small method": (b"get /echo HTTP/1.1\r\nHost: here\r\n\r\n", 400),
    "CONNECT": (b"CONNECT here:80 HTTP/1.1\r\nHost: here\r\n\r\n", 405),
    "TRACE": (b"TRACE /echo HTTP/1.1\r\nHost: here\r\n\r\n", 405),
    "PROPFIND": (b"PROPFIND /echo HTTP/1.1\r\nHost: here\r\n\r\n", 405),
    "an absolute target": (post(target=b"http://here/echo"), 400),
    "an authority": (post(target=b"here:80"), 400),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: here\r\n\r\n", 400),
    "an empty segment": (post(target=b"//echo"), 400),
    "an empty segment inside": (post(target=b"/v1//echo"), 400),
    "a dot": (post(target=b"/./echo"), 400),
    "two dots": (post(target=b"/v1/../echo"), 400),
    "two dots at the end": (post(target=b"/v1/.."), 400),
    "encoded dots": (post(target=b"/v1/%2e%2e/echo"), 400),
    "an encoded slash": (post(target=b"/v1%2Fecho"), 400),
    "an encoded backslash": (post(target=b"/v1%5Cecho"), 400),
    "an encoded NUL": (post(target=b"/echo%00"), 400),
    "an encoded line end": (post(target=b"/echo%0d%0aX:%20y"), 400),
    "half an encoding": (post(target=b"/echo%4"), 400),
    "no encoding": (post(target=b"/echo%zz"), 400),
    "a backslash": (post(target=b"/v1\\echo"), 400),
    "a fragment": (post(target=b"/echo#x"), 400),
    "a space in the target": (post(target=b"/echo x"), 400),
    "a byte beyond ASCII": (post(target=b"/echo\xff"), 400),
    "a target too long": (post(target=b"/" + b"a" * head.TARGET_BYTES_MAX), 414),
    "a query too long": (post(target=b"/echo?" + b"a" * head.TARGET_BYTES_MAX), 414),
    "no host": (b"GET /echo HTTP/1.1\r\n\r\n", 400),
    "two hosts": (post(b"Host: there"), 400),
    "a host with a path": (b"GET /echo HTTP/1.1\r\nHost: here/x\r\n\r\n", 400),
    "a host with a user": (b"GET /echo HTTP/1.1\r\nHost: a@here\r\n\r\n", 400),
    "two tokens": (post(b"Authorization: Bearer a", b"Authorization: Bearer b"), 400),
    "two types": (post(b"Content-Type: application/json", b"Content-Type: text/plain"), 400),
    "HTTP/0.9": (b"GET /echo\r\n\r\n", 400),
    "HTTP/0.9 by name": (b"GET /echo HTTP/0.9\r\nHost: here\r\n\r\n", 400),
    "HTTP/1.2": (b"GET /echo HTTP/1.2\r\nHost: here\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /echo HTTP/2.0\r\nHost: here\r\n\r\n", 400),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a small protocol": (b"GET /echo http/1.1\r\nHost: here\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), 400),
    "nothing but bytes": (bytes(range(256)), 400),
    "a field too large": (post(b"X: " + b"a" * head.BYTES_MAX), 431),
    "fields too large": (post(*[b"X-%d: " % n + b"a" * 1000 for n in range(40)]), 431),
    "a field without end": (b"GET /echo HTTP/1.1\r\nHost: here\r\nX: " + b"a" * 1_000_000, 431),
    "a name without end": (b"GET /echo HTTP/1.1\r\nHost: here\r\n" + b"a" * 1_000_000, 431),
    "too many fields": (post(*[b"X-%d: a" % n for n in range(head.FIELDS_MAX)]), 431),
    "line ends without end": (b"\r\n" * 40_000, 431),
    "a chunk that is no number": (CHUNKED + b"zz\r\n", 400),
    "a chunk beyond 64 bits": (CHUNKED + b"fffffffffffffffff\r\n", 400),
    "a negative chunk": (CHUNKED + b"-1\r\nx\r\n0\r\n\r\n", 400),
    "a chunk's bare line feed": (CHUNKED + b"1\nx\n0\n\n", 400),
    "a chunk longer than it says": (CHUNKED + b"1\r\nxyz\r\n0\r\n\r\n", 400),
    "a space behind a chunk's size": (CHUNKED + b"1 \r\nx\r\n0\r\n\r\n", 400),
    "an extension without end": (CHUNKED + b"1;" + b"a" * 1_000_000, 400),
    "extensions without end": (CHUNKED + (b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 1000, 400),
    "single bytes": (CHUNKED + b"1\r\nx\r\n" * 100_000, 400),
    "a trailer without end": (CHUNKED + b"1\r\nx\r\n0\r\n" + b"X: " + b"a" * 1_000_000, 400),
    "trailers without end": (CHUNKED + b"1\r\nx\r\n0\r\n" + b"X: a\r\n" * 100_000, 400),
}
CODES = {
    400: "invalid_request",
    405: "method_not_allowed",
    414: "target_too_long",
    431: "headers_too_large",
}


async def test_what_is_refused_is_told_in_the_envelope_and_closed() -> None:
    async with listening() as here:
        found = {name: await refused(here, raw) for name, (raw, _) in HOSTILE.items()}
        assert found == {name: (status, CODES[status]) for name, (_, status) in HOSTILE.items()}
        await here.emptied()


async def refused(here: Listening, raw: bytes) -> tuple[int, str]:
    """Return what this is refused with, once it is told as it should be and the next request works."""
    async with here.connected() as client:
        answer = await client.ask(raw)
        assert (answer.headers["connection"], answer.headers["content-type"]) == ("close", "application/json")
        assert len(answer.headers["x-request-id"]) == 26
        assert ("allow" in answer.headers) == (answer.status == 405)
        assert await client.closed() == b""
    async with here.connected() as client:
        assert (await client.ask(GET)).status == 200
    return answer.status, answer.code


@pytest.mark.parametrize("name", ["length beside chunks", "a field too large", "two hosts", "an extension without end"])
async def test_a_refusal_does_not_depend_on_where_reads_end(name: str) -> None:
    raw, status = HOSTILE[name]
    async with listening() as here, here.connected() as client:
        for start in range(min(len(raw), 400)):
            await client.send(raw[start : start + 1])
        await client.send(raw[400:])
        assert (await client.answer()).status == status


HONEST = [
    GET,
    post(b"Content-Length: 0"),
    post(b"Content-Length: 5", body=b"12345"),
    post(b"transfer-encoding:  Chunked ", body=b"5\r\n12345\r\n0\r\n\r\n"),
    post(b"X: \xe9t\xe9 \t y", b"x_y: 1", b"Accept: a", b"Accept: b"),
    post(target=b"/echo?a=//../%2F%00&b=http://x", body=b""),
    post(*[b"X-%d: a" % n for n in range(head.FIELDS_MAX - 1)]),
    post(b"X: " + b"a" * (head.BYTES_MAX - 1000)),
    b"\r\n" + GET,
    b"GET /v1/models/a%2Fb HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    b"GET /v1/models/%C3%A9 HTTP/1.1\r\nHost: a.example.:8080\r\n\r\n",
]


async def test_what_honest_clients_send_is_served_and_the_connection_kept() -> None:
    async with listening() as here, here.connected() as client:
        assert [(raw, (await client.ask(raw)).status) for raw in HONEST * 2] == [(raw, 200) for raw in HONEST * 2]


async def test_http_1_0_is_served_and_closed() -> None:
    async with listening() as here, here.connected() as client:
        answer = await client.ask(b"GET /echo HTTP/1.0\r\n\r\n")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.closed() == b""


# --- bodies


async def test_a_body_in_many_chunks_arrives_whole() -> None:
    body = b"".join(b"%x;n=%d\r\n" % (1000, n) + b"y" * 1000 + b"\r\n" for n in range(2_000))
    async with listening() as here, here.connected() as client:
        answer = await client.ask(CHUNKED + body + b"0\r\n\r\n")
        assert answer.json["body"] == "y" * 2_000_000
        assert (await client.ask(GET)).status == 200


async def test_a_trailer_is_dropped() -> None:
    async with listening() as here, here.connected() as client:
        answer = await client.ask(CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: Bearer forged\r\nHost: there\r\n\r\n")
        assert dict(answer.json["headers"]) == {"host": "here", "transfer-encoding": "chunked"}
        assert [name for name, _ in (await client.ask(GET)).json["headers"]] == ["host"]


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0"])
@pytest.mark.parametrize(
    ("framing", "sent", "body"),
    [
        (b"X: none", b"", ""),
        (b"Content-Length: 5", b"12345", "12345"),
        (b"Transfer-Encoding: chunked", b"5\r\n12345\r\n0\r\n\r\n", "12345"),
    ],
)
async def test_an_upgrade_is_ignored_and_the_body_kept(upgrade: bytes, framing: bytes, sent: bytes, body: str) -> None:
    fields = [b"Upgrade: " + upgrade, b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAA", framing]
    async with listening() as here, here.connected() as client:
        for _ in range(2):
            answer = await client.ask(post(*fields, body=sent))
            assert (answer.status, answer.json["body"]) == (200, body)
            assert [name for name, _ in answer.json["headers"]] == ["host", framing.decode().partition(":")[0].lower()]
        await client.send(post(*fields, body=sent) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert [(await client.answer()).status for _ in range(2)] == [200, 400]


async def test_an_upgrade_with_a_refused_head_is_refused() -> None:
    async with listening() as here, here.connected() as client:
        upgrade = [b"Upgrade: h2c", b"Connection: Upgrade"]
        assert (await client.ask(post(*upgrade, target=b"//echo"))).status == 400


async def test_a_client_that_expects_100_is_told_to_go_on() -> None:
    async with listening() as here, here.connected() as client:
        assert (await client.ask(post(b"Expect: 100-continue", b"Content-Length: 5"))).status == 100
        assert (await client.ask(b"12345")).json["body"] == "12345"
        assert (await client.ask(GET)).status == 200


@pytest.mark.parametrize(
    "raw", [post(b"Content-Length: 50000000", target=b"/unread"), CHUNKED.replace(b"/echo", b"/unread")]
)
async def test_an_answer_before_the_body_is_read_ends_the_connection(raw: bytes) -> None:
    async with listening() as here, here.connected() as client:
        answer = await client.ask(raw)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.closed() == b""


async def test_an_early_answer_reaches_a_client_that_is_still_sending() -> None:
    async with listening() as here, here.connected() as client:
        await client.send(post(b"Content-Length: 50000000", target=b"/unread"))
        for _ in range(64):
            client.writer.write(b"x" * 65_536)
        assert (await client.answer()).status == 200
        await here.emptied()


async def test_a_length_that_is_too_short_ends_the_connection_after_the_answer() -> None:
    async with listening() as here, here.connected() as client:
        here.app.may_answer.set()
        answer = await client.ask(post(b"Content-Length: 2", target=b"/waits", body=b"12345\r\n\r\n"))
        assert answer.json["body"] == "12"
        assert (await client.answer()).status == 400
        assert await client.closed() == b""


async def test_a_broken_body_ends_its_request_at_once() -> None:
    async with listening() as here, here.connected() as client:
        await client.send(CHUNKED + b"1\r\nx\r\n")
        assert (await client.ask(b"oops\r\n")).status == 400
        async with asyncio.timeout(10):
            await here.app.left.wait()
        await here.emptied()
        assert here.app.gone == ["/echo"]


@pytest.mark.parametrize("refused", [b"what?\r\n\r\n", GET.replace(b"/echo", b"/waits") + b"what?\r\n\r\n"])
async def test_what_a_refused_client_still_sends_is_thrown_away_slowly(refused: bytes) -> None:
    async with listening() as here, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(here.connected()) for _ in range(4)]
        for client in clients:
            await client.send(refused)
        floods = [asyncio.create_task(flood(client)) for client in clients]
        await asyncio.sleep(1)
        for each in floods:
            each.cancel()
        sent = [await each for each in floods]
        assert sum(sent) < 150 * 2**20
        assert min(sent) > 2**20


async def flood(client: RawClient) -> int:
    """Send as fast as it goes until cancelled; return how much went."""
    sent, part = 0, bytes(2**18)
    with suppress(asyncio.CancelledError, ConnectionError):
        while True:
            await client.send(part)
            sent += len(part)
    return sent


# --- one after the other


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with listening() as here, here.connected() as client:
        await client.send(b"".join(GET.replace(b"/echo", b"/%d" % n) for n in range(10)))
        assert [(await client.answer()).json["path"] for _ in range(10)] == [f"/{n}" for n in range(10)]


async def test_too_many_pipelined_requests_are_refused_after_the_answers_to_the_others() -> None:
    async with listening() as here, here.connected() as client:
        await client.send(GET.replace(b"/echo", b"/waits") * 5_000)
        here.app.may_answer.set()
        statuses = [(await client.answer()).status for _ in range(18)]
        assert statuses == [200] * 17 + [400]
        assert await client.closed() == b""


async def test_what_cannot_be_read_is_refused_after_the_answer_that_runs() -> None:
    async with listening() as here, here.connected() as client:
        await client.send(GET.replace(b"/echo", b"/waits") + b"what?\r\n\r\n")
        here.app.may_answer.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 400]
        assert await client.closed() == b""


async def test_a_hang_up_ends_every_request_of_its_connection() -> None:
    async with listening() as here:
        async with here.connected() as client:
            await client.send(GET.replace(b"/echo", b"/waits") * 3)
            async with asyncio.timeout(10):
                await here.app.begun.wait()
        async with asyncio.timeout(10):
            await here.app.left.wait()
        await here.emptied()
        assert here.app.gone == ["/waits"]
        assert len(here.app.asked) == 1


# --- time


@pytest.mark.parametrize("begun", [b"GET /echo HTTP/1.1\r\nHost: he", b"\r\n"])
async def test_a_head_that_does_not_end_is_told_so(begun: bytes) -> None:
    async with listening(head_s_max=0.2) as here, here.connected() as client:
        answer = await client.ask(begun)
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert await client.closed() == b""


async def test_a_dripping_head_does_not_buy_time() -> None:
    async with listening(head_s_max=0.3) as here, here.connected() as client:
        await client.send(b"GET /echo HTTP/1.1\r\n")
        dripping = asyncio.create_task(drip(client))
        assert (await client.answer()).status == 408
        dripping.cancel()


async def drip(client: RawClient) -> None:
    while True:
        await client.send(b"X: y\r\n")
        await asyncio.sleep(0.02)


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with listening(head_s_max=0.2) as here, here.connected() as client:
        assert await client.closed() == b""
        await here.emptied()


async def test_a_later_head_has_its_deadline_too() -> None:
    async with listening(head_s_max=0.2) as here, here.connected() as client:
        assert (await client.ask(GET)).status == 200
        assert (await client.ask(GET[:20])).status == 408


async def test_a_head_begun_behind_a_running_answer_has_its_deadline_after_it() -> None:
    async with listening(head_s_max=0.2) as here, here.connected() as client:
        await client.send(GET.replace(b"/echo", b"/waits") + GET[:20])
        await asyncio.sleep(0.4)
        here.app.may_answer.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 408]


async def test_a_slow_answer_is_not_cut_by_the_heads_deadline() -> None:
    async with listening(head_s_max=0.1) as here, here.connected() as client:
        await client.send(GET.replace(b"/echo", b"/waits"))
        await asyncio.sleep(0.3)
        here.app.may_answer.set()
        assert (await client.answer()).status == 200


async def test_an_idle_connection_is_closed() -> None:
    async with listening(keep_alive_s=0.2) as here, here.connected() as client:
        assert (await client.ask(GET)).status == 200
        assert await client.closed() == b""
        await here.emptied()


async def test_a_connection_is_idle_from_its_last_answer_on() -> None:
    async with listening(keep_alive_s=1.5) as here, here.connected() as client:
        for _ in range(4):
            assert (await client.ask(GET)).status == 200
            await asyncio.sleep(0.5)
        await client.send(GET.replace(b"/echo", b"/waits"))
        await asyncio.sleep(2)
        here.app.may_answer.set()
        assert (await client.answer()).status == 200
        await asyncio.sleep(0.5)
        assert (await client.ask(GET)).status == 200
        assert await client.closed() == b""


# --- how many


@pytest.mark.parametrize(
    ("bounds", "status", "code"),
    [({"total_max": 2}, 503, "overloaded"), ({"per_address_max": 2}, 429, "concurrency_limit_exceeded")],
)
async def test_a_connection_too_many_is_told_so_and_a_closed_one_gives_its_place_back(
    bounds: dict[str, int], status: int, code: str
) -> None:
    async with listening(**bounds) as here:
        async with here.connected() as first, here.connected() as second:
            assert [(await each.ask(GET)).status for each in (first, second)] == [200, 200]
            async with here.connected() as third:
                answer = await third.ask(GET)
                assert (answer.status, answer.code, answer.headers["retry-after"]) == (status, code, "1")
                assert await third.closed() == b""
            assert (await first.ask(GET)).status == 200
        await here.emptied()
        async with here.connected() as again:
            assert (await again.ask(GET)).status == 200
        assert here.edge.lingering == 0


async def test_a_thousand_connections_leave_nothing_behind() -> None:
    async with listening(total_max=50, per_address_max=50) as here:
        for _ in range(10):
            clients = [connected("127.0.0.1", here.port) for _ in range(100)]
            opened = [await client.__aenter__() for client in clients]
            answers = await asyncio.gather(*(each.ask(GET) for each in opened), return_exceptions=True)
            assert sum(getattr(answer, "status", 0) == 200 for answer in answers) == 50
            for client in clients:
                await client.__aexit__(None, None, None)
            await here.emptied()


# --- the server it guards


RELIED_ON: dict[Callable[..., Any], list[str]] = {
    HttpToolsProtocol.__init__: ["self", "config", "server_state", "app_state", "_loop"],
    HttpToolsProtocol._start_asgi_task: ["self", "cycle", "app"],
    HttpToolsProtocol.on_message_begin: ["self"],
    HttpToolsProtocol.on_headers_complete: ["self"],
    HttpToolsProtocol.on_body: ["self", "body"],
    HttpToolsProtocol.on_message_complete: ["self"],
    HttpToolsProtocol.on_response_complete: ["self"],
    HttpToolsProtocol.shutdown: ["self"],
}


@pytest.mark.parametrize("method", RELIED_ON, ids=lambda method: method.__name__)
def test_the_server_has_the_methods_that_the_guard_overrides(method: Callable[..., Any]) -> None:
    assert list(inspect.signature(method).parameters) == RELIED_ON[method]


KEPT_BY_THE_SERVER = set(
    "loop parser transport flow client server_state tasks timeout_keep_alive pipeline cycle url headers".split()
) | {"expect_100_continue"}


def test_the_guard_uses_no_other_attributes_of_the_server_than_these() -> None:
    used = {
        node.attr
        for module in (cycles, guard)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    theirs = set(re.findall(r"self\.(\w+)(?:: [^=\n]+)? = ", inspect.getsource(HttpToolsProtocol)))
    assert used & theirs == KEPT_BY_THE_SERVER
    ours = {
        name for owner in (CyclesInOrder, GuardedHttp) for name in vars(owner) if not hasattr(asyncio.Protocol, name)
    }
    overridden = {method.__name__ for method in RELIED_ON}
    assert (ours - overridden) & (theirs | set(dir(HttpToolsProtocol))) == set()


def test_the_guard_overrides_every_callback_of_the_parser_that_the_server_has() -> None:
    theirs = {name for name in vars(HttpToolsProtocol) if name.startswith("on_")}
    ours = {name for owner in (RequestParser, GuardedHttp) for name in vars(owner) if name.startswith("on_")}
    assert theirs == ours


def test_a_cycle_has_the_fields_that_the_guard_sets() -> None:
    source = inspect.getsource(RequestResponseCycle)
    for name in ("keep_alive", "disconnected", "response_started", "response_complete", "more_body", "message_event"):
        assert f"self.{name} = " in source
    assert "self.transport.close()" in source


def test_a_direct_cycle_has_what_the_server_sets_of_a_cycle() -> None:
    source = inspect.getsource(HttpToolsProtocol)
    used = set(re.findall(r"(?<!existing_)\bcycle\.(\w+)", source))
    assert used == {"response_complete", "disconnected", "message_event", "keep_alive", "body", "more_body", "run_asgi"}
    asked_of_an_application_alone = {"body", "run_asgi"}
    assert used - asked_of_an_application_alone <= set(dir(DirectCycle))
    assert inspect.iscoroutinefunction(FlowControl.drain)


def test_the_parser_hands_over_what_a_callback_raised() -> None:
    class Raising:
        def on_url(self, url: bytes) -> None:
            raise LookupError

    with pytest.raises(httptools.HttpParserCallbackError) as caught:
        httptools.HttpRequestParser(Raising()).feed_data(GET)
    assert isinstance(caught.value.__context__, LookupError)


def test_bounds_stand_in_proportion() -> None:
    assert parser._PIECE_BYTES <= head.BYTES_MAX


async def test_each_refusal_is_told_once_to_whoever_counts_them() -> None:
    async with listening(total_max=1, head_s_max=0.2) as here:
        async with here.connected() as client:
            await client.send(b"GET / HTTP/1.1\r\nX : y\r\n\r\n")
            assert (await client.answer()).code == "invalid_request"
            async with here.connected() as second:
                assert (await second.answer()).code == "overloaded"
        await here.emptied()
        async with here.connected() as silent:
            assert await silent.closed() == b""
        await here.emptied()
        async with here.connected() as slow:
            await slow.send(b"GET / HT")
            assert (await slow.answer()).code == "request_timeout"
        assert here.refusals == ["invalid_request", "overloaded", "silent", "request_timeout"]


async def test_a_stop_lets_the_running_answer_end_and_begins_none_behind_it() -> None:
    async with AsyncExitStack() as stack:
        async with listening() as here:
            client = await stack.enter_async_context(here.connected())
            await client.send(GET.replace(b"/echo", b"/waits") * 3)
            await here.app.begun.wait()
            asyncio.get_running_loop().call_later(0.3, here.app.may_answer.set)
        assert (await client.answer()).status == 200
        assert await client.closed() == b""
        assert [asked["path"] for asked in here.app.asked] == ["/waits"]
