"""
Frames that the recordings lack, by hand; each says which line of vLLM writes it, or that none does.

Paths are below vllm/entrypoints/openai/ of vLLM 0.32.
"""

import json
from typing import Any

import pytest

from engine.faults import MalformedStream
from engine.protocols.base import FrameKind
from engine.protocols.frames import Chunk, opening_of, read_chunk, read_run
from engine.protocols.stream import CompletionStream
from engine.protocols.usage import Usage
from engine.wire.sse import data_of

SO_FAR = b'"usage":{"prompt_tokens":17,"total_tokens":20,"completion_tokens":3}'
SUM = (
    b'"usage":{"prompt_tokens":17,"total_tokens":20,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":16}}'
)
HEAD = b'"id":"c","object":"chat.completion.chunk","created":1,"model":"m"'


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def read(frame: bytes) -> Chunk:
    data = data_of(frame)
    assert data is not None
    return read_chunk(frame, data)


def delta(choice: bytes) -> bytes:
    """Return a frame of one choice with its usage, as vLLM writes it."""
    return event(b"{" + HEAD + b',"choices":[' + choice + b"]," + SO_FAR + b"}")


AS_VLLM_WRITES: dict[str, bytes] = {
    # chat_completion/serving.py, chat_completion_stream_generator: `DeltaMessage(content="")`, where a detokenizer
    # holds half a character or a stop string back.
    "an empty delta": b'{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":null,"token_ids":null}',
    # The same generator: a reasoning or tool parser that has nothing to say yet sends an empty object.
    "a delta without a key": b'{"index":0,"delta":{},"logprobs":null,"finish_reason":null}',
    # The same: several tokens that the engine handed over at once make one delta.
    "a merged delta": b'{"index":0,"delta":{"content":"one two three"},"finish_reason":null}',
    # `DeltaToolCall` with `DeltaFunctionCall(arguments=...)`: arguments are a string, whatever is in it.
    "a tool call": b'{"index":0,"delta":{"tool_calls":[{"index":1,"id":"t","type":"function","function":{"name":"f",'
    rb'"arguments":"{\"a\":1,\"usage\":{\"prompt_tokens\":9}}"}}]},"finish_reason":null}',
    "reasoning": b'{"index":0,"delta":{"reasoning":"hm, \\",\\\\\\"usage\\\\\\":{}"},"finish_reason":null}',
    # completion/serving.py, _create_completion_logprobs: `top_logprobs` has tokens as keys.
    "logprobs of a token named usage": b'{"index":0,"text":"usage","logprobs":{"text_offset":[0],'
    b'"token_logprobs":[-1.0],"tokens":["usage"],"top_logprobs":[{" a":-2.0,"usage":-1.0,"error":-99.0}]}}',
    "a line separator": '{"index":0,"delta":{"content":"a\u2028b\u2029c\u0085d"},"finish_reason":null}'.encode(),
}


@pytest.mark.parametrize("choice", AS_VLLM_WRITES.values(), ids=AS_VLLM_WRITES)
def test_a_frame_of_vllm_is_cut_by_bytes(choice: bytes) -> None:
    frame = delta(choice)
    chunk = read(frame)
    assert chunk.usage == Usage(17, 0, 3)
    assert chunk.choice == 0
    assert not chunk.aborted
    assert chunk.stripped == frame.replace(b"," + SO_FAR, b"")


def thinking(tokens: int, details: bytes) -> bytes:
    """Return the frame of one choice with a reasoning parser's usage (`UsageInfo.completion_tokens_details`)."""
    usage = b'"usage":{"prompt_tokens":17,"total_tokens":%d,"completion_tokens":%d,"completion_tokens_details":%b}'
    choice = b'{"index":0,"delta":{"reasoning":"hm"},"finish_reason":null}'
    return event(b"{" + HEAD + b',"choices":[' + choice + b"]," + usage % (17 + tokens, tokens, details) + b"}")


@pytest.mark.parametrize(
    "details", [b'{"reasoning_tokens":%d}', b'{"audio_tokens":null,"reasoning_tokens":%d}', b"null"], ids=str
)
def test_frames_that_tell_thoughts_are_read_together_by_bytes(details: bytes) -> None:
    frames = [thinking(tokens, details % tokens if b"%" in details else details) for tokens in (1, 2, 3)]
    opening = opening_of(frames[0])
    assert opening is not None
    stripped = [frame[: frame.index(b',"usage"')] + b"}\n\n" for frame in frames]
    assert read_run(b"".join(frames), opening) == (b"".join(stripped), [(0, Usage(17, 0, 3))])
    assert read(frames[2])[:3] == (stripped[2], Usage(17, 0, 3), 0)


def test_what_was_thought_is_told_by_the_sum() -> None:
    usage = b'{"prompt_tokens":17,"total_tokens":20,"completion_tokens":3,"completion_tokens_details":%b}'
    frame = event(b"{" + HEAD + b',"choices":[],"usage":' + usage + b"}")
    assert read(frame.replace(b"%b", b'{"reasoning_tokens":2}')).usage == Usage(17, 0, 3, 2)
    for odd in (b"null", b"{}", b'{"reasoning_tokens":null}', b'{"reasoning_tokens":-1}', b'{"reasoning_tokens":"2"}'):
        assert read(frame.replace(b"%b", odd)).usage == Usage(17, 0, 3)


@pytest.mark.parametrize(
    ("frame", "stripped", "usage"),
    [
        (b'{"id":"c","choices":[],"usage":{"prompt_tokens":1}}', b'{"id":"c","choices":[]}', Usage(1)),
        (
            b'{"id":"c","choices":[{"index":2}],"usage":{"prompt_tokens":1},"prompt_text":null}',
            b'{"id":"c","choices":[{"index":2}],"prompt_text":null}',
            Usage(1),
        ),
        (b'{"id":"c","choices":[],"usage":null}', b'{"id":"c","choices":[]}', None),
        (b'{"id":"c","choices":[{"index":0}]}', b'{"id":"c","choices":[{"index":0}]}', None),
        (
            rb'{"id":"c","choices":[{"index":0,"text":",\"usage\":{}"}]}',
            rb'{"id":"c","choices":[{"index":0,"text":",\"usage\":{}"}]}',
            None,
        ),
        (
            b'{"id":"c","choices":[{"index":0,"text":"usage"}]}',
            b'{"id":"c","choices":[{"index":0,"text":"usage"}]}',
            None,
        ),
    ],
)
def test_usage_is_taken_out_and_nothing_else(frame: bytes, stripped: bytes, usage: Usage | None) -> None:
    chunk = read(event(frame))
    assert (chunk.stripped, chunk.usage) == (event(stripped), usage)


CONTENT = b'"choices":[{"index":1,"delta":{"content":"a"},"finish_reason":null}]'
WRITTEN_OTHERWISE: dict[str, bytes] = {
    # No line of vLLM's writes these; whatever stands between may.
    "spaces": json.dumps(json.loads(b"{" + HEAD + b"," + CONTENT + b"," + SO_FAR + b"}")).encode(),
    "usage first": b"{" + SO_FAR + b"," + HEAD + b"," + CONTENT + b"}",
    "usage before the choices": b"{" + HEAD + b"," + SO_FAR + b"," + CONTENT + b"}",
    "no id first": b'{"object":"chat.completion.chunk","id":"c",' + CONTENT + b"," + SO_FAR + b"}",
    "no index first": b"{" + HEAD + b',"choices":[{"delta":{"content":"a"},"index":1}],' + SO_FAR + b"}",
}


@pytest.mark.parametrize("data", WRITTEN_OTHERWISE.values(), ids=WRITTEN_OTHERWISE)
@pytest.mark.parametrize("frame", ["data: %s\n\n", "data:%s\n\n", "data: %s\r\n\r\n", ": hello\ndata: %s\r\r"])
def test_a_frame_written_otherwise_says_the_same(data: bytes, frame: str) -> None:
    chunk = read((frame % data.decode()).encode())
    assert (chunk.usage, chunk.choice, chunk.has_choices) == (Usage(17, 0, 3), 1, True)
    left = data_of(chunk.stripped)
    assert left is not None
    assert json.loads(left) == {key: value for key, value in json.loads(data).items() if key != "usage"}


def test_data_in_several_lines_is_one_value() -> None:
    frame = b"data: {" + HEAD + b',\ndata: "choices":[],\ndata: ' + SUM + b"}\n\n"
    chunk = read(frame)
    assert (chunk.usage, chunk.choice, chunk.has_choices) == (Usage(17, 16, 3), None, False)


@pytest.mark.parametrize(
    "data",
    [
        b'{"id":"c","choices":[{"index":0,"finish_reason":"abort"}]}',
        b'{"id": "c", "choices": [{"index": 0, "finish_reason": "abort"}], "usage": null}',
    ],
)
def test_an_abort_is_seen_however_it_is_written(data: bytes) -> None:
    assert read(event(data)).aborted
    assert not read(event(data.replace(b'"finish_reason"', b'"text":"a","x"'))).aborted


@pytest.mark.parametrize("index", [b'"0"', b"-1", b"null", b"1.5", b"true"])
def test_usage_must_say_whose_it_is(index: bytes) -> None:
    with pytest.raises(ValueError, match="whose"):
        read(event(b'{"id":"c","choices":[{"index":' + index + b"}]," + SO_FAR + b"}"))


@pytest.mark.parametrize("data", [b"", b"hello", b"[]", b"7", b'{"choices":7}', b'{"choices":[7]}', b'{"a":1}'])
def test_what_is_no_chunk_is_a_fault(data: bytes) -> None:
    with pytest.raises(MalformedStream):
        CompletionStream(n=1, include_usage=False, continuous_usage=False).feed(event(data))


def stream_of(*frames: bytes, n: int = 1, **options: Any) -> tuple[CompletionStream, list[FrameKind]]:
    stream = CompletionStream(n=n, **({"include_usage": False, "continuous_usage": False} | options))
    return stream, [frame.kind for frame in stream.feed(b"".join(frames))]


def test_an_abort_of_one_choice_of_several_ends_them_all() -> None:
    # chat_completion/serving.py finishes each choice by itself; what is aborted by id ends all of them.
    finish = delta(b'{"index":1,"delta":{"content":""},"finish_reason":"abort"}')
    stream, kinds = stream_of(
        delta(b'{"index":0,"delta":{"content":"a"}}'), finish, delta(b'{"index":0,"delta":{}}'), n=2
    )
    assert kinds == [FrameKind.CONTENT, FrameKind.ABORT, FrameKind.ABORT]
    assert stream.usage == Usage(17, 0, 6)


def test_a_byte_order_mark_belongs_to_no_frame() -> None:
    stream, kinds = stream_of(b"\xef\xbb\xbf" + delta(b'{"index":0,"delta":{"content":"a"}}'))
    assert kinds == [FrameKind.CONTENT]
    assert stream.usage == Usage(17, 0, 3)


def test_a_frame_of_megabytes_is_a_frame() -> None:
    # 16 choices' worth of logprobs never come near it; one past FRAME_BYTES_MAX is a fault (see test_sse).
    logprobs = (
        b'{"index":0,"delta":{"content":"a"},"logprobs":{"content":[' + b'{"token":"usage"},' * 150_000 + b"{}]}}"
    )
    stream, kinds = stream_of(delta(logprobs))
    assert kinds == [FrameKind.CONTENT]
    assert stream.usage == Usage(17, 0, 3)
