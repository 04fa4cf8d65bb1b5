"""What OpenAI's endpoints have in common: streams and limits as the engine reads them, and failures as clients do."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from engine.protocols.base import ApiProtocol
from engine.protocols.chat import CHAT
from engine.protocols.completions import COMPLETIONS
from engine.protocols.embeddings import EMBEDDINGS
from engine.protocols.registry import PROTOCOLS
from engine.wire.sse import FrameSplitter, data_of
from tests.transcripts import transcript
from tests.unit.engine.protocols.parsing import rendered, request


@pytest.mark.parametrize("protocol", [CHAT, COMPLETIONS], ids=["chat", "completions"])
@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        {"include_usage": False},
        {"include_usage": True, "continuous_usage_stats": False},
        {"continuous_usage_stats": True},
        {"include_usage": True, "anything": 1},
    ],
)
def test_a_stream_always_asks_for_continuous_usage(protocol: ApiProtocol, options: dict[str, Any] | None) -> None:
    body = rendered(protocol, stream=True, stream_options=options)
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert body["stream"] is True


@pytest.mark.parametrize(
    ("options", "include", "continuous"),
    [
        (None, False, False),
        ({"include_usage": True}, True, False),
        ({"include_usage": True, "continuous_usage_stats": True}, True, True),
        ({"include_usage": "yes"}, True, False),
        ({"include_usage": "true", "continuous_usage_stats": 1}, True, True),
        ({"include_usage": None, "continuous_usage_stats": "off"}, False, False),
    ],
)
def test_what_the_client_asked_to_see_is_known(options: Any, *, include: bool, continuous: bool) -> None:
    asked = request(CHAT, stream=True, stream_options=options)
    assert (asked.include_usage, asked.continuous_usage) == (include, continuous)


def test_an_answer_that_is_not_streamed_has_no_stream_options() -> None:
    # vLLM answers 400 to them.
    assert "stream_options" not in rendered(CHAT, stream=False, stream_options=None)


@pytest.mark.parametrize(("protocol", "name"), [(CHAT, "max_completion_tokens"), (COMPLETIONS, "max_tokens")])
def test_the_engine_reads_one_limit_and_it_is_ours(protocol: ApiProtocol, name: str) -> None:
    body = rendered(protocol, max_completion=33, max_tokens=500, max_completion_tokens=500)
    assert {key: body[key] for key in body if key.startswith("max_")} == {name: 33}


@pytest.mark.parametrize(("asked", "granted", "told"), [(5, 100, 5), (100, 50, 50), (50, 50, 50)])
def test_min_tokens_is_clamped_with_the_limit(asked: int, granted: int, told: int) -> None:
    assert rendered(CHAT, max_completion=granted, min_tokens=asked)["min_tokens"] == told


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_only_what_asks_for_a_stream_gets_one(protocol: ApiProtocol) -> None:
    assert protocol.stream(request(protocol)) is None
    assert (protocol.stream(request(protocol, stream=True)) is not None) == protocol.generates


openais = pytest.mark.parametrize("protocol", [CHAT, COMPLETIONS, EMBEDDINGS], ids=lambda protocol: protocol.name)
"""Who speaks OpenAI's envelope."""


@dataclass(frozen=True)
class Row:
    """A failure of the gateway's table."""

    status: int = 502
    type: str = "server_error"
    code: str = "stream_truncated"
    message: str = "Broke\noff."
    param: str | None = None
    retry_after_s: int | None = 7


@openais
def test_a_failure_reads_as_openais_clients_expect(protocol: ApiProtocol) -> None:
    envelope = {
        "error": {"message": "Broke\noff.", "type": "server_error", "param": None, "code": "stream_truncated"},
    }
    assert json.loads(protocol.error_body(Row())) == envelope
    (frame,) = FrameSplitter().feed(protocol.error_frame(Row(), early=False))
    assert json.loads(data_of(frame) or b"") == envelope
    (frame,) = FrameSplitter().feed(protocol.error_frame(Row(), early=True))
    assert json.loads(data_of(frame) or b"")["error"] == envelope["error"] | {"status": 502, "retry_after_s": 7}


@openais
def test_an_engines_refusal_fits_in_a_frame(protocol: ApiProtocol) -> None:
    body = json.dumps({"error": {"message": "No.", "code": 400}}, indent=2).encode()
    (frame,) = FrameSplitter().feed(protocol.refusal_frame(400, body))
    assert json.loads(data_of(frame) or b"") == {"error": {"message": "No.", "code": 400, "status": 400}}


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
@pytest.mark.parametrize("before", [b"", b"data: "])
def test_an_answer_says_whose_it_is(protocol: ApiProtocol, before: bytes) -> None:
    own = protocol.id_prefix.encode() + b"R"
    assert protocol.answers("R", before + b'{"id":"%b","object":1}' % own)
    for other in (b"R", own + b"1", own[:-1] + b"S", b""):
        assert protocol.answers("R", before + b'{"id":"%b","object":1}' % other) is False
    for nothing in (b"", b'{"object":1,"id":"%b"}' % own, b'{"id": "%b"}' % own, b'{"id":7}'):
        assert protocol.answers("R", before + nothing) is None


@pytest.mark.parametrize("name", ["420-by-id-stream", "421-by-id", "423-by-id-completion-stream"])
def test_vllm_calls_an_answer_by_its_requests_id(name: str) -> None:
    recorded = transcript(name)
    (protocol,) = (each for each in PROTOCOLS.values() if each.path == recorded.path)
    assert protocol.answers("r", recorded.chunks[0])
