"""What is refused before an engine works for an answer that nobody could read, and what just passes."""

from typing import Any

import pytest

from engine.faults import MalformedRequest
from engine.protocols.answer_size import ANSWER_BYTES_MAX
from engine.protocols.base import ApiProtocol
from engine.protocols.chat import CHAT
from engine.protocols.completions import COMPLETIONS
from engine.protocols.embeddings import EMBEDDINGS
from engine.wire.sse import FRAME_BYTES_MAX
from tests.unit.engine.protocols.parsing import request

IDS = [1] * 8_000


def check(
    protocol: ApiProtocol, max_completion: int = 4_096, extra: frozenset[str] = frozenset(), **fields: Any
) -> None:
    protocol.check_answer(
        request(protocol, **fields), max_completion=max_completion, context_tokens=131_072, extra_fields=extra
    )


@pytest.mark.parametrize(
    ("protocol", "max_completion", "fields", "bound"),
    [
        (CHAT, 24_000 // 7, {"n": 8, "logprobs": True, "top_logprobs": 20}, ANSWER_BYTES_MAX),
        (COMPLETIONS, 24_000 // 7, {"n": 8, "logprobs": 20}, ANSWER_BYTES_MAX),
        (COMPLETIONS, 131_072, {"n": 8, "prompt": ["a"] * 4}, ANSWER_BYTES_MAX),
        (COMPLETIONS, 1, {"n": 8, "echo": True, "logprobs": 10, "prompt": [IDS] * 4}, ANSWER_BYTES_MAX),
        (COMPLETIONS, 1, {"stream": True, "echo": True, "logprobs": 5, "prompt": IDS}, FRAME_BYTES_MAX),
        (COMPLETIONS, 1, {"stream": True, "echo": True, "prompt": "a" * 700_000}, FRAME_BYTES_MAX),
        (EMBEDDINGS, 0, {"input": ["a"] * 6, "dimensions": 500_000}, ANSWER_BYTES_MAX),
    ],
)
def test_an_answer_that_nobody_could_read_is_not_asked_for(
    protocol: ApiProtocol, max_completion: int, fields: dict[str, Any], bound: int
) -> None:
    with pytest.raises(MalformedRequest, match=f"at most {bound} are read") as caught:
        check(protocol, max_completion, **fields)
    assert caught.value.param in fields


@pytest.mark.parametrize(
    ("protocol", "max_completion", "fields"),
    [
        (CHAT, 4_096, {"n": 8, "logprobs": True, "top_logprobs": 5}),
        (CHAT, 4_096, {"logprobs": True, "top_logprobs": 20}),
        (CHAT, 131_072, {"n": 8}),
        (CHAT, 131_072, {"n": 8, "top_logprobs": 20, "logprobs": True, "stream": True}),
        (COMPLETIONS, 1, {"echo": True, "logprobs": 5, "prompt": [IDS] * 4}),
        (COMPLETIONS, 1, {"stream": True, "echo": True, "logprobs": 1, "prompt": IDS}),
        (COMPLETIONS, 1, {"stream": True, "echo": True, "prompt": "a" * 500_000}),
        (EMBEDDINGS, 0, {"input": ["a"] * 6, "dimensions": 4_096}),
        (EMBEDDINGS, 0, {"input": ["a"] * 6, "dimensions": 500_000, "encoding_format": "base64"}),
        (EMBEDDINGS, 0, {"input": ["a"] * 6}),
    ],
)
def test_what_can_be_read_is(protocol: ApiProtocol, max_completion: int, fields: dict[str, Any]) -> None:
    check(protocol, max_completion, **fields)


def test_logprobs_of_the_prompt_count_where_the_operator_lets_them_pass() -> None:
    check(COMPLETIONS, 1, prompt=IDS, prompt_logprobs=100)
    with pytest.raises(MalformedRequest, match="bytes"):
        check(COMPLETIONS, 1, frozenset({"prompt_logprobs"}), prompt=IDS, prompt_logprobs=100)
    with pytest.raises(MalformedRequest, match="between"):
        check(COMPLETIONS, 1, frozenset({"prompt_logprobs"}), prompt_logprobs=-1)
