"""What a stream proves, by transcripts of real replicas: a whole answer, an abort, a crash, a refusal."""

import json
import re

import pytest

from engine.faults import MalformedStream
from engine.protocols.base import FrameKind
from engine.protocols.stream import CompletionStream
from engine.protocols.usage import Usage
from tests.transcripts import STREAMS, Transcript, transcript


def played(one: Transcript) -> tuple[CompletionStream, list[FrameKind], bytes]:
    """Return the machine after the whole stream, the kinds of its frames, and what went on."""
    stream = CompletionStream(n=one.n, include_usage=False, continuous_usage=False)
    frames = stream.feed(one.body)
    return stream, [frame.kind for frame in frames], b"".join(frame.forward for frame in frames)


@pytest.mark.parametrize("one", [one for one in STREAMS if one.continuous and one.name < "3"], ids=lambda one: one.name)
def test_an_answer_with_its_sum_is_complete(one: Transcript) -> None:
    stream, kinds, _ = played(one)
    assert stream.complete
    assert stream.failure is None
    assert kinds[-2:] == [FrameKind.USAGE, FrameKind.DONE]
    assert set(kinds[:-2]) == {FrameKind.CONTENT}


def test_done_without_a_sum_is_not_complete() -> None:
    stream, kinds, _ = played(transcript("120-chat-stream"))
    assert kinds[-1] is FrameKind.DONE
    assert not stream.complete


def test_a_sum_without_done_is_not_complete() -> None:
    one = transcript("122-chat-stream-continuous")
    stream = CompletionStream(n=1, include_usage=False, continuous_usage=False)
    for chunk in one.chunks[:-1]:
        stream.feed(chunk)
    assert not stream.complete
    stream.feed(one.chunks[-1])
    assert stream.complete


def test_an_abort_is_not_complete_and_its_usage_is_known() -> None:
    stream, kinds, forwarded = played(transcript("410-abort-stream"))
    assert (stream.done, stream.aborted, stream.complete) == (True, True, False)
    assert kinds[-3:] == [FrameKind.ABORT, FrameKind.ABORT, FrameKind.DONE]
    assert b"abort" not in forwarded
    assert stream.usage == Usage(17, 0, 9)


ROLE = b'{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]'
NO_TOKENS = b'"usage":{"prompt_tokens":18,"total_tokens":18,"completion_tokens":0}}'


@pytest.mark.parametrize(
    "frames", [(ROLE, b'{"id":"c","choices":[]'), (b'{"id":"c","choices":[]',)], ids=["chat", "text"]
)
def test_what_was_aborted_while_it_waited_is_not_complete(frames: tuple[bytes, ...]) -> None:
    # Seen on vLLM 0.32: aborted by id before its first token, a stream has a sum and [DONE], and no abort.
    stream = CompletionStream(n=1, include_usage=False, continuous_usage=False)
    for frame in frames:
        stream.feed(b"data: " + frame + b"," + NO_TOKENS + b"\n\n")
    stream.feed(b"data: [DONE]\n\n")
    assert stream.done
    assert not stream.complete


def test_a_crash_is_not_complete_though_the_engine_says_done() -> None:
    stream, kinds, forwarded = played(transcript("412-crash-stream"))
    assert kinds[-2:] == [FrameKind.ERROR, FrameKind.DONE]
    assert (stream.done, stream.complete) == (True, False)
    assert b"EngineCore" not in forwarded
    assert stream.error is not None
    assert stream.error["code"] == 500
    assert stream.failure is not None
    assert stream.failure.status == 500
    assert stream.usage == Usage(17, 0, 15)


def test_a_refusal_comes_as_the_first_frame_of_a_200() -> None:
    stream, kinds, _ = played(transcript("309-bad-logprobs-stream"))
    assert kinds == [FrameKind.ERROR, FrameKind.DONE]
    assert stream.error is not None
    assert (stream.error["code"], stream.error["param"]) == (400, "logprobs")
    assert stream.failure is not None
    assert (stream.failure.status, json.loads(stream.failure.body)) == (400, {"error": stream.error})


def test_comments_go_on_as_they_came() -> None:
    stream = CompletionStream(n=1, include_usage=False, continuous_usage=False)
    (frame,) = stream.feed(b": keep-alive\n\n")
    assert (frame.kind, frame.forward) == (FrameKind.COMMENT, b": keep-alive\n\n")


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"error": {"code": 500\n\n',
        b'data: {"a":1,"usage":{"prompt_tokens":}}\n\n',
        b'data: {"a":1,"usage":{"prompt_tokens_details":7}}\n\n',
        b'data: {"a":1,"usage":{"prompt_tokens":"many"}}\n\n',
        b'data: {"choices":[{"index":0}],"usage":{"completion_tokens":-1}}\n\n',
    ],
)
def test_what_vllm_never_sends_is_a_fault(frame: bytes) -> None:
    stream = CompletionStream(n=1, include_usage=False, continuous_usage=False)
    with pytest.raises(MalformedStream):
        stream.feed(frame)


@pytest.mark.parametrize("frame", [b'data: {"error":"overloaded"}\n\n', b'data: {"object":"error","message":"x"}\n\n'])
def test_an_error_of_another_shape_is_an_error_all_the_same(frame: bytes) -> None:
    stream = CompletionStream(n=1, include_usage=False, continuous_usage=False)
    (read,) = stream.feed(frame)
    assert read.kind is FrameKind.ERROR
    assert stream.error is not None
    assert stream.error.get("code") is None
    assert stream.failure is not None
    assert stream.failure.status is None


def own(chunks: tuple[bytes, ...]) -> bytes:
    """Return a stream but for what is different in each."""
    return re.sub(rb'"id":"[^"]*"|"created":\d+', b"", b"".join(chunks))


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("asked", "plain"),
    [("122-chat-stream-continuous", "120-chat-stream"), ("123-chat-stream-n2-continuous", "124-chat-stream-n2")],
)
def test_the_engine_is_named_where_it_names_itself_without_usage(asked: str, plain: str, *, together: bool) -> None:
    one = transcript(asked)
    first, second = (CompletionStream(n=one.n, include_usage=False, continuous_usage=False) for _ in range(2))
    first.feed(one.body)
    assert first.fingerprint == b'"vllm-0.32.0-e25804e6"'
    second.fingerprint = first.fingerprint
    frames = [frame for read in ([one.body] if together else one.chunks) for frame in second.feed(read)]
    shown = b"".join(frame.forward for frame in frames)
    named = [frame for frame in shown.split(b"\n\n") if b"system_fingerprint" in frame]
    expected = [chunk for chunk in transcript(plain).chunks if b"system_fingerprint" in chunk]
    assert [own((frame + b"\n\n",)) for frame in named] == [own((chunk,)) for chunk in expected]


def test_where_usage_is_asked_its_frame_names_the_engine() -> None:
    one = transcript("122-chat-stream-continuous")
    stream = CompletionStream(n=1, include_usage=True, continuous_usage=False)
    stream.fingerprint = b'"another"'
    assert b"another" not in b"".join(frame.forward for frame in stream.feed(one.body))
