"""A stream means the same however it is cut into reads, and what goes on is what came less what nobody asked for."""

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.faults import MalformedStream
from engine.protocols.base import FrameKind
from engine.protocols.frames import read_chunk
from engine.protocols.stream import CompletionStream
from engine.protocols.usage import Usage
from engine.wire.sse import FrameSplitter, data_of
from tests.transcripts import STREAMS, Transcript

WHOLE = [one for one in STREAMS if one.continuous and one.name.startswith(("1", "2"))]
"""Continuous streams that ran to their end, as the gateway asks for all of its own."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
texts = st.text(st.sampled_from('ab ":{}[],\u2028\u2029\u0085\u00e9\U0001f600'), max_size=12)
lines = st.one_of(
    texts.map(lambda text: "data: " + text),
    texts.map(lambda text: "data:" + text),
    texts.map(lambda text: ": " + text),
    st.sampled_from(["data", "event: message", "id: 7", "retry: 10", "database: no"]),
)


@st.composite
def event_streams(draw: st.DrawFn) -> bytes:
    """Draw events whose every line ends in its own way."""
    stream = draw(st.sampled_from([b"", BYTE_ORDER_MARK]))
    for event in draw(st.lists(st.lists(lines, max_size=4), max_size=6)):
        for line in [*event, ""]:
            stream += line.encode() + draw(line_ends)
    return stream + draw(st.sampled_from([b"", b"data: unfinished", b": unfinished"]))


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Return the stream cut at these places."""
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def framed(reads: list[bytes]) -> tuple[list[bytes], bytes]:
    """Return the frames of a stream read in these parts, and what was left."""
    splitter = FrameSplitter()
    return [frame for read in reads for frame in splitter.feed(read)], splitter.rest


def events(stream: bytes) -> list[bytes]:
    """Return the data of a stream's whole events, as the WHATWG reads it: line by line."""
    *whole, _ = re.split(rb"\r\n|\n|\r", stream.removeprefix(BYTE_ORDER_MARK))
    found: list[bytes] = []
    data: list[bytes] = []
    for line in whole:
        name, _, value = line.partition(b":")
        if line == b"" and data:
            found.append(b"\n".join(data))
            data = []
        elif name == b"data":
            data.append(value.removeprefix(b" "))
    return found


@given(event_streams(), st.lists(st.integers(0, 10_000), max_size=12))
def test_frames_do_not_depend_on_where_reads_end(stream: bytes, places: list[int]) -> None:
    frames, rest = framed(cut(stream, places))
    assert b"".join(frames) + rest == stream.removeprefix(BYTE_ORDER_MARK)
    assert (frames, rest) == framed([stream])


@given(event_streams())
def test_frames_hold_the_events_that_a_browser_would_dispatch(stream: bytes) -> None:
    ended = stream + b"\n: end"
    frames, _ = framed([ended])
    assert [data for frame in frames if (data := data_of(frame)) is not None] == events(ended)


@pytest.mark.parametrize("played", STREAMS, ids=lambda one: one.name)
@given(places=st.lists(st.integers(0, 100_000), max_size=30))
def test_what_goes_on_does_not_depend_on_where_reads_end(played: Transcript, places: list[int]) -> None:
    results = []
    for reads in (list(played.chunks), cut(played.body, places)):
        stream = CompletionStream(n=played.n, include_usage=False, continuous_usage=False)
        forwarded = b"".join(frame.forward for read in reads for frame in stream.feed(read))
        results.append((forwarded, stream.usage, stream.complete, stream.aborted, stream.error))
    assert results[0] == results[1]


def parsed(frame: bytes) -> Any:
    data = data_of(frame)
    return None if data is None else json.loads(data)


def without_usage(frame: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in frame.items() if key != "usage"}


def less(frame: bytes, *, include_usage: bool, continuous_usage: bool) -> bytes:
    """Return what a client with these options reads of a frame of vLLM's, by the text of its JSON."""
    if frame == b"data: [DONE]\n\n":
        return frame
    value = parsed(frame)
    if not value["choices"]:
        return frame if include_usage else b""
    if include_usage and continuous_usage:
        return frame
    usage = b',"usage":' + json.dumps(value["usage"], separators=(",", ":")).encode()
    assert frame.count(usage) == 1
    return frame.replace(usage, b"")


@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize("continuous_usage", [False, True])
@pytest.mark.parametrize("played", WHOLE, ids=lambda one: one.name)
@settings(max_examples=25)
@given(places=st.lists(st.integers(0, 100_000), max_size=30))
def test_what_goes_on_is_what_came_less_what_nobody_asked_for(
    played: Transcript, places: list[int], *, include_usage: bool, continuous_usage: bool
) -> None:
    stream = CompletionStream(n=played.n, include_usage=include_usage, continuous_usage=continuous_usage)
    frames = [frame for read in cut(played.body, places) for frame in stream.feed(read)]
    assert b"".join(frame.forward for frame in frames) == b"".join(
        less(chunk, include_usage=include_usage, continuous_usage=continuous_usage) for chunk in played.chunks
    )


@pytest.mark.parametrize("played", WHOLE, ids=lambda one: one.name)
def test_a_stream_may_arrive_byte_by_byte(played: Transcript) -> None:
    stream = CompletionStream(n=played.n, include_usage=True, continuous_usage=True)
    frames = [frame for at in range(len(played.body)) for frame in stream.feed(played.body[at : at + 1])]
    assert [frame.forward for frame in frames] == list(played.chunks)
    assert stream.complete


@pytest.mark.parametrize("played", WHOLE, ids=lambda one: one.name)
def test_the_running_usage_arrives_at_the_engines_own_sum(played: Transcript) -> None:
    stream = CompletionStream(n=played.n, include_usage=False, continuous_usage=False)
    seen: list[tuple[int, int]] = []
    for chunk in played.chunks:
        stream.feed(chunk)
        assert stream.usage is not None
        seen.append((stream.usage.prompt_tokens, stream.usage.completion_tokens))
    *running, told, _ = seen
    engines_own = json.loads(played.chunks[-2][6:])["usage"]
    assert told == (engines_own["prompt_tokens"], engines_own["completion_tokens"])
    assert running[-1] == told
    assert all(prompt <= told[0] and completion <= told[1] for prompt, completion in running)


contents = st.one_of(
    st.text(max_size=30),
    st.sampled_from([',"usage":{"prompt_tokens":1}', '"choices":[]', '"finish_reason":"abort"', '{"error"', "\n\n"]),
)


@given(content=contents, tokens=st.integers(0, 2**40), compact=st.booleans())
def test_no_text_of_a_tenant_is_taken_for_usage(content: str, tokens: int, *, compact: bool) -> None:
    usage = {"prompt_tokens": tokens, "total_tokens": tokens + 1, "completion_tokens": 1, "details": {"cached": 0}}
    frame = {"id": "x", "choices": [{"index": 0, "delta": {"content": content}}], "usage": usage, "text": content}
    written = json.dumps(frame, separators=(",", ":"), ensure_ascii=compact).encode()
    chunk = read_chunk(b"data: " + written + b"\n\n", written)
    assert parsed(chunk.stripped) == without_usage(frame)
    assert chunk.usage == Usage(tokens, 0, 1)
    stream = CompletionStream(n=1, include_usage=False, continuous_usage=False)
    assert [one.kind for one in stream.feed(b"data: " + written + b"\n\n")] == [FrameKind.CONTENT]
    assert stream.usage == Usage(tokens, 0, 1)


def frame(content: str, *, choice: int, prompt: int, completion: int, shape: str) -> bytes:
    """Return a frame such as vLLM writes, or one that nearly is."""
    usage = f'"usage":{{"prompt_tokens":{prompt},"total_tokens":9,"completion_tokens":{completion}}}'
    finish = "abort" if shape == "abort" else "stop"
    head = (
        f'{{"id":"x","choices":[{{"index":{choice},"delta":{{"content":{json.dumps(content)}}},"finish":"{finish}"}}]'
    )
    data = {
        "plain": f"{head},{usage}}}",
        "role": f'{head},{usage},"prompt_text":null}}',
        "no usage": f"{head}}}",
        "two": f"{head},{usage},{usage}}}",
        "abort": f"{head.replace('finish', 'finish_reason')},{usage}}}",
        "spaces": json.dumps(json.loads(f"{head},{usage}}}")),
        "another id": f"{head.replace('x', 'y', 1)},{usage}}}",
        "sum": f'{{"id":"x","choices":[],{usage}}}',
        "done": "[DONE]",
    }[shape]
    return f"data: {data}\n\n".encode()


frames = st.builds(
    frame,
    contents,
    choice=st.integers(0, 1),
    prompt=st.integers(0, 3),
    completion=st.integers(0, 2**40),
    shape=st.sampled_from(["plain"] * 8 + "role|no usage|two|abort|spaces|another id|sum|done".split("|")),
)


@settings(max_examples=400)
@given(sent=st.lists(frames | st.sampled_from([b": ping\n\n", b"\n", b"data: 7\n\n"]), max_size=12), data=st.data())
def test_frames_that_come_together_say_what_they_say_one_by_one(sent: list[bytes], data: st.DataObject) -> None:
    body = b"".join(sent)
    places = data.draw(st.lists(st.integers(0, len(body)), max_size=4))
    results: list[tuple[Any, ...] | None] = []
    for reads in (cut(body, places), cut(body, list(range(len(body))))):
        stream = CompletionStream(n=1, include_usage=False, continuous_usage=False)
        forwarded = b""
        try:
            for read in reads:
                forwarded += b"".join(one.forward for one in stream.feed(read))
        except MalformedStream:
            results.append(None)
        else:
            results.append((forwarded, stream.usage, stream.aborted, stream.done, stream.error))
    assert results[0] == results[1]
