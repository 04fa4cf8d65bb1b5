"""
Bytes nobody meant: whatever arrives, each parser answers with its own declared error or not at all.

The examples are the same in every run; a failure prints the one that broke it.
"""

import asyncio
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from engine.faults import EngineRefused, MalformedRequest, UpstreamFault
from engine.protocols.base import ApiProtocol
from engine.protocols.bounds import Maxima
from engine.protocols.registry import PROTOCOLS
from engine.protocols.stream import CompletionStream
from engine.wire.sse import FrameSplitter, data_of
from proxy.catalog import Catalog
from proxy.edge.connections import Connections
from proxy.edge.direct_cycle import DirectCycle
from proxy.edge.edge import Edge
from proxy.edge.guard import GuardedHttp
from proxy.errors import InvalidToken
from proxy.identity.development import mint
from proxy.identity.tokens import Verifier
from proxy.settings import Settings
from proxy.settings.loading import parse as settings_of
from tests.transcripts import STREAMS
from tests.unit.proxy.gateway import CONFIG

fuzzed = settings(max_examples=400, derandomize=True, suppress_health_check=list(HealthCheck))
MAXIMA = Maxima(
    json_depth_max=64,
    prompts_max=8,
    inputs_max=8,
    n_max=8,
    logprobs_max=20,
    stop_max=4,
    stop_bytes_max=64,
    tools_max=8,
    schema_bytes_max=4_096,
    entries_max=8,
)
ODD = [b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\t", b"0", b"-", b"{", b"[", b'"', b"\\", b"\xff", b";", b",", b"."]


@st.composite
def mutated(draw: st.DrawFn, sound: list[bytes]) -> bytes:
    """Draw something sound with a few bytes put in, taken out, doubled or moved."""
    data = draw(st.sampled_from(sound))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 12))
        match draw(st.sampled_from(["put", "take", "double", "change", "cut"])):
            case "put":
                data = data[:at] + draw(st.sampled_from(ODD) | st.binary(max_size=6)) + data[at:]
            case "take":
                data = data[:at] + data[at + size :]
            case "double":
                data = data[: at + size] + data[at:]
            case "change":
                data = data[:at] + draw(st.sampled_from(ODD)) + data[at + 1 :]
            case "cut":
                data = data[:at]
    return data


# --- the edge

REQUESTS = [
    b"GET /v1/models HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer x\r\n\r\n",
    b"POST /v1/chat HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n12345",
    b"POST /v1/chat HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\n12345\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"POST /v1/chat HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n12345",
    b"POST / HTTP/1.1\r\nHost: here\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\n12345",
    b"GET /a HTTP/1.1\r\nHost: here\r\n\r\nGET /b HTTP/1.1\r\nHost: here\r\n\r\nGET /c HTTP/1.0\r\n\r\n",
]


class Wire(asyncio.Transport):
    """A client that only listens."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)})
        self.written = b""
        self.ended = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.ended

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


async def answering(scope: Any, receive: Any, send: Any) -> None:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def direct(cycle: DirectCycle) -> None:
    cycle.take()
    while cycle.more_body:
        await cycle.news()
        cycle.take()
        if cycle.disconnected:
            return
    cycle.begin(200, b"", b"")
    cycle.finish(b"ok")


async def served(reads: list[bytes]) -> Wire:
    """Give a fresh connection these reads, then a hang-up; return what the client saw."""
    config = uvicorn.Config(answering, http="httptools", ws="none", lifespan="off", access_log=False, log_config=None)
    edge = Edge(connections=Connections(1, 1), head_s_max=60, direct={b"/v1/chat": direct})
    state, wire = ServerState(), Wire()
    protocol = GuardedHttp(config, state, {}, asyncio.get_running_loop(), edge=edge)
    protocol.connection_made(wire)
    for read in reads:
        protocol.data_received(read)
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    async with asyncio.timeout(10):
        while state.tasks:
            await asyncio.wait(set(state.tasks))
    assert (edge.connections.total, edge.lingering) == (0, 0)
    return wire


@fuzzed
@given(mutated(REQUESTS), st.integers(1, 200))
def test_the_edge_answers_any_bytes_and_gives_everything_back(data: bytes, size: int) -> None:
    wire = asyncio.run(served([data[start : start + size] for start in range(0, len(data), size)]))
    assert b"HTTP/1.1 5" not in wire.written
    assert wire.written == b"" or wire.written.startswith(b"HTTP/1.1 ")


@fuzzed
@given(st.sampled_from(REQUESTS), st.integers(1, 200))
def test_the_edge_reads_a_request_however_it_is_cut(data: bytes, size: int) -> None:
    whole = asyncio.run(served([data])).written
    cut = asyncio.run(served([data[start : start + size] for start in range(0, len(data), size)])).written
    assert cut.count(b"HTTP/1.1 200 OK") == whole.count(b"HTTP/1.1 200 OK") > 0


# --- bodies

ASKED: list[dict[str, Any]] = [
    {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
            {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": '{"a": [1]}'}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "stop": ["a"],
        "logit_bias": {"1": 2},
        "top_logprobs": 2,
        "logprobs": True,
        "n": 2,
        "max_tokens": 5,
    },
    {"model": "m", "prompt": ["a", "b"], "suffix": "c", "n": 2, "max_tokens": 5, "stop": "x", "logprobs": 1},
    {"model": "m", "prompt": [[1, 2], [3]], "stop_token_ids": [1], "bad_words": ["x"], "min_tokens": 1},
    {"model": "m", "input": ["a"]},
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to everything inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return `value` with something else at a place."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@st.composite
def retyped(draw: st.DrawFn) -> bytes:
    """Draw a sound body with something of another type in one or two of its places."""
    body = draw(st.sampled_from(ASKED))
    for _ in range(draw(st.integers(1, 2))):
        body = replaced(body, draw(st.sampled_from(places(body))), draw(ANYTHING))
    return json.dumps(body).encode()


@fuzzed
@given(st.sampled_from(list(PROTOCOLS.values())), retyped() | mutated([json.dumps(body).encode() for body in ASKED]))
def test_a_body_is_understood_or_malformed(protocol: ApiProtocol, body: bytes) -> None:
    with suppress(MalformedRequest):
        asked = protocol.parse(body, MAXIMA)
        rendered = protocol.render(asked, model="m", max_completion=1, cache_salt="s", extra_fields=())
        assert json.loads(rendered)["cache_salt"] == "s"
        assert asked.prompt.text_bytes >= 0


# --- what engines send


@fuzzed
@given(mutated([stream.body for stream in STREAMS]), st.integers(1, 5_000), st.booleans())
def test_a_stream_is_read_or_broken(data: bytes, size: int, continuous: bool) -> None:  # noqa: FBT001 (drawn)
    splitter = FrameSplitter()
    stream = CompletionStream(n=2, include_usage=True, continuous_usage=continuous)
    with suppress(UpstreamFault, EngineRefused):
        for start in range(0, len(data), size):
            for frame in splitter.feed(data[start : start + size]):
                data_of(frame)
            stream.feed(data[start : start + size])
    assert stream.usage is None or stream.usage.completion_tokens >= 0


# --- tokens


@cache
def issuer() -> tuple[Settings, Verifier, bytes]:
    config = settings_of(CONFIG, {}, folder=Path(mkdtemp()))
    return config, Verifier.of(config, Catalog.of(config)), mint(config, tenant="acme", user="ada").encode()


@fuzzed
@given(st.data())
def test_a_token_is_believed_or_invalid(data: st.DataObject) -> None:
    _, verifier, sound = issuer()
    token = data.draw(mutated([sound, sound.partition(b".")[0] + b".e30.", b"e30.e30.e30"]))
    with suppress(InvalidToken):
        principal = asyncio.run(verifier.verify(token.decode("latin-1")))
        assert (principal.tenant, principal.user) == ("acme", "ada")
