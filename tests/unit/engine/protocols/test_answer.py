import json
from typing import Any

import orjson
import pytest

from engine.faults import UpstreamBroken
from engine.protocols.answer import read_answer
from engine.protocols.usage import Usage
from tests.transcripts import transcript


def body(*choices: dict[str, Any], prompt: int, completion: int) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return json.dumps({"choices": choices, "usage": usage}).encode()


def test_a_real_answer() -> None:
    answer = read_answer(transcript("100-chat").chunks, prompts=1)
    assert not answer.aborted
    assert answer.usage.completion_tokens > 0


def test_an_embedding_has_no_choices() -> None:
    answer = read_answer([b'{"data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}'], prompts=1)
    assert (answer.usage, answer.aborted) == (Usage(prompt_tokens=7), False)


ABORTED = {"finish_reason": "abort"}


@pytest.mark.parametrize(
    ("choices", "prompts", "completion", "proven"),
    [
        ([ABORTED], 1, 0, Usage()),
        ([ABORTED], 1, 2, Usage(9, 0, 2)),
        ([ABORTED | {"text": "a"}, ABORTED | {"text": ""}], 2, 2, Usage(0, 0, 2)),
        ([ABORTED | {"text": "a"}, {"finish_reason": "stop", "text": "b"}], 2, 2, Usage(9, 0, 2)),
    ],
)
def test_of_an_aborted_answer_a_prompt_counts_with_its_first_token(
    choices: list[dict[str, Any]], prompts: int, completion: int, proven: Usage
) -> None:
    answer = read_answer([body(*choices, prompt=9, completion=completion)], prompts=prompts)
    assert (answer.usage, answer.aborted) == (proven, True)


@pytest.mark.parametrize(
    "odd", [b"", b"[]", b"{}", b'{"choices":[1],"usage":{}}', b'{"choices":{},"usage":{"prompt_tokens":-1}}']
)
def test_what_vllm_does_not_send(odd: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        read_answer([odd], prompts=1)


# --- large ones, which are not parsed

LARGE = "x" * 100_000
USAGE = {"prompt_tokens": 9, "total_tokens": 12, "completion_tokens": 3}
FALSE = {"prompt_tokens": 1, "total_tokens": 2, "completion_tokens": 1}
SPELLINGS: list[dict[str, Any]] = [{"separators": (",", ":")}, {}, {"indent": 1}]


def in_parts(text: bytes, size: int) -> list[bytes]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def large(*, spelt: dict[str, Any] | None = None, behind: dict[str, Any] | None = None, **fields: Any) -> bytes:
    """Return an answer as vLLM orders it, with something before its usage and something behind."""
    choice = {"index": 0, "message": {"role": "assistant", "content": LARGE}, "finish_reason": "stop"}
    answer = {"id": "x", "choices": [choice], **fields, "usage": USAGE, **(behind or {})}
    return json.dumps(answer, **(SPELLINGS[0] if spelt is None else spelt)).encode()


@pytest.mark.parametrize("spelt", SPELLINGS, ids=["as vLLM", "with spaces", "on lines"])
@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"behind": {"prompt_logprobs": None, "kv_transfer_params": None}},
        {"behind": {"usage_note": "usage", "object": "usage", "words": ["usage", "usage"]}},
        {"behind": {"inner": {"usage": FALSE}}},
        {"behind": {"inner": [{"usage": FALSE}]}},
        {"behind": {"text": json.dumps({"usage": FALSE})}},
        {"behind": {"text": json.dumps({"a": 1, "usage": FALSE}) + "}}"}},
        {"inner": {"a": 1, "usage": FALSE}, "text": '\\","usage":' + json.dumps(FALSE) + "}"},
    ],
    ids=["last", "before nulls", "a word", "an inner object", "in a list", "a text", "a text with braces", "before it"],
)
@pytest.mark.parametrize("size", [16_384, 70_000, 10**6])
def test_the_usage_of_a_large_answer_is_its_own(answer: dict[str, Any], size: int, spelt: dict[str, Any]) -> None:
    told = read_answer(in_parts(large(spelt=spelt, **answer), size), prompts=1)
    assert told == (Usage(9, 0, 3), False)


@pytest.mark.parametrize(
    "odd",
    [
        large(behind={"more": LARGE}),
        large().replace(b'"usage"', b'"usages"'),
        large()[:-1],
        large() + b"}",
        b"[" + large() + b"]",
        large().replace(b'"usage":{', b'"usage":null,"inner":{'),
        large().replace(b'"prompt_tokens":9', b'"prompt_tokens":-9'),
        json.dumps({"choices": [{"usage": USAGE, "text": LARGE}]}).encode(),
        json.dumps({"choices": [{"text": LARGE, "usage": USAGE}]}).encode(),
        json.dumps({"text": LARGE + json.dumps({"usage": USAGE})}).encode(),
    ],
    ids=[
        "far behind",
        "no usage",
        "cut",
        "too long",
        "a list",
        "null",
        "below 0",
        "a choice's",
        "its last",
        "a text's",
    ],
)
def test_what_a_large_answer_does_not_say_is_not_made_up(odd: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        read_answer(in_parts(odd, 16_384), prompts=1)


def test_a_large_answer_is_never_parsed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    loads = orjson.loads

    def noted(text: bytes) -> Any:
        parsed.append(len(text))
        return loads(text)

    monkeypatch.setattr(orjson, "loads", noted)
    read_answer(in_parts(large(text=LARGE * 20), 16_384), prompts=1)
    assert parsed
    assert max(parsed) < 1_000


@pytest.mark.parametrize("spelt", SPELLINGS[:2], ids=["as vLLM", "with spaces"])
@pytest.mark.parametrize(
    ("texts", "completion", "proven"),
    [
        ([LARGE], 0, Usage()),
        ([LARGE], 2, Usage(9, 0, 2)),
        ([LARGE, ""], 2, Usage(0, 0, 2)),
        ([LARGE, "b"], 2, Usage(9, 0, 2)),
    ],
)
def test_of_a_large_aborted_answer_a_prompt_counts_with_its_first_token(
    texts: list[str], completion: int, proven: Usage, spelt: dict[str, Any]
) -> None:
    choices = [{"text": text, "finish_reason": "abort"} for text in texts]
    usage = {"prompt_tokens": 9, "completion_tokens": completion}
    body = json.dumps({"choices": choices, "usage": usage}, **spelt).encode()
    for size in (16_384, 16_391, 99_999, 100_043, 10**6):
        assert read_answer(in_parts(body, size), prompts=len(texts)) == (proven, True)


@pytest.mark.parametrize("text", ['"finish_reason":"abort"', "abort", '\\","finish_reason":"abort'])
def test_a_text_gives_nothing_up(text: str) -> None:
    assert not read_answer(in_parts(large(words=["abort", text]), 16_384), prompts=1).aborted
