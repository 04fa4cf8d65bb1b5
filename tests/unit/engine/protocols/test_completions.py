"""What passes of a completion's body and what is counted of it, whatever shape its prompts have."""

from typing import Any

import pytest

from engine.faults import MalformedRequest
from engine.protocols.completions import COMPLETIONS
from tests.transcripts import transcript
from tests.unit.engine.protocols.parsing import rendered, request


@pytest.mark.parametrize(
    ("fields", "asked"),
    [({"max_tokens": 5}, 5), ({"max_tokens": 5, "max_completion_tokens": 10_000}, 5), ({}, None)],
)
def test_max_completion_tokens_wins_where_vllm_lets_it_win(fields: dict[str, Any], asked: int | None) -> None:
    assert request(COMPLETIONS, **fields).max_completion == asked


@pytest.mark.parametrize(
    ("prompt", "counted"),
    [
        ("hi", (1, 2, 0, 0)),
        ("", (1, 0, 0, 0)),
        ("h\u00e9\U0001f600", (1, 7, 0, 0)),
        (["hi", "you"], (2, 5, 0, 0)),
        ([1, 2, 3], (1, 0, 3, 3)),
        ([[1, 2, 3], [4]], (2, 0, 4, 3)),
    ],
)
def test_a_prompt_is_counted_in_every_shape(prompt: Any, counted: tuple[int, int, int, int]) -> None:
    # (prompts, text_bytes, token_ids, longest_ids)
    asked = request(COMPLETIONS, prompt=prompt).prompt
    assert (asked.count, asked.text_bytes, asked.token_ids, asked.longest_ids) == counted


@pytest.mark.parametrize("echo", [True, "true", 1])
def test_a_prompt_that_is_only_scored_has_the_one_token_that_vllm_counts_for_it(echo: Any) -> None:
    asked = request(COMPLETIONS, max_tokens=0, echo=echo, min_tokens=3)
    assert asked.max_completion == 1
    body = rendered(COMPLETIONS, max_completion=1, max_tokens="0", echo=echo)
    assert (body["max_tokens"], body["echo"]) == (0, True)


def test_choices_multiply_over_prompts() -> None:
    assert request(COMPLETIONS, prompt=["a", "b", "c"], n=4).choices == 12


def test_a_suffix_counts_for_each_prompt() -> None:
    assert request(COMPLETIONS, prompt=["a", "b"], suffix="123").prompt.text_bytes == 8


@pytest.mark.parametrize(("prompts", "ids"), [(1, ["cmpl-R-0"]), (3, ["cmpl-R-0", "cmpl-R-1", "cmpl-R-2"])])
def test_requests_have_the_ids_of_their_answers(prompts: int, ids: list[str]) -> None:
    # Seen on vLLM 0.32: `cmpl-R` alone aborts nothing.
    assert COMPLETIONS.abort_ids("R", prompts) == ids


def test_an_engine_names_its_answer_by_the_requests_id() -> None:
    assert b'data: {"id":"%br"' % COMPLETIONS.id_prefix.encode() in transcript("423-by-id-completion-stream").body


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt"),
    ({"prompt": [[1], "a"]}, "prompt"),
    ({"prompt": [True]}, "prompt"),
    ({"prompt": [[1.0]]}, "prompt"),
    ({"prompt": {"prompt": "a"}}, "prompt"),
    ({"prompt": ["a"] * 5}, "prompt"),
    ({"suffix": 1}, "suffix"),
    ({"logprobs": 21}, "logprobs"),
    ({"logprobs": "yes"}, "logprobs"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 0, "echo": "no"}, "max_tokens"),
    ({"max_tokens": -1, "echo": True}, "max_tokens"),
    ({"echo": "maybe"}, "echo"),
    ({"structured_outputs": {"regex": "a" * 4096}}, "structured_outputs"),
]


@pytest.mark.parametrize(("fields", "param"), MALFORMED)
def test_a_malformed_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        request(COMPLETIONS, **fields)
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message
