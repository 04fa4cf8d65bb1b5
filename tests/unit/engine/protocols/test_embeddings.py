"""What is counted of inputs to embed, of which no token is generated."""

from typing import Any

import pytest

from engine.faults import MalformedRequest
from engine.protocols.embeddings import EMBEDDINGS
from tests.unit.engine.protocols.parsing import MAXIMA, rendered, request


def test_embeddings_have_no_limit_on_completion() -> None:
    assert not {"max_tokens", "max_completion_tokens"} & set(rendered(EMBEDDINGS))


@pytest.mark.parametrize(
    ("prompt", "counted"),
    [
        ("hi", (1, 2, 0, 0)),
        (["hi", "you"], (2, 5, 0, 0)),
        ([[1], [2]], (2, 0, 2, 1)),
    ],
)
def test_a_prompt_is_counted_in_every_shape(prompt: Any, counted: tuple[int, int, int, int]) -> None:
    # (prompts, text_bytes, token_ids, longest_ids)
    asked = request(EMBEDDINGS, input=prompt).prompt
    assert (asked.count, asked.text_bytes, asked.token_ids, asked.longest_ids) == counted


def test_more_inputs_are_taken_than_prompts_of_a_completion() -> None:
    assert request(EMBEDDINGS, input=["a"] * MAXIMA.inputs_max).prompts > MAXIMA.prompts_max
    with pytest.raises(MalformedRequest, match="at most 6"):
        request(EMBEDDINGS, input=["a"] * (MAXIMA.inputs_max + 1))


@pytest.mark.parametrize("encoding", ["bytes", "bytes_only", "other", 7, ["float"]])
def test_an_encoding_that_is_no_json_is_not_asked_for(encoding: Any) -> None:
    with pytest.raises(MalformedRequest, match="float or base64") as caught:
        request(EMBEDDINGS, encoding_format=encoding)
    assert caught.value.param == "encoding_format"


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_an_encoding_in_json_is(encoding: Any) -> None:
    assert rendered(EMBEDDINGS, encoding_format=encoding)["encoding_format"] == encoding


def test_there_is_nothing_to_abort() -> None:
    assert EMBEDDINGS.abort_ids("R", 1) == []


def test_a_malformed_field_is_named() -> None:
    with pytest.raises(MalformedRequest) as caught:
        request(EMBEDDINGS, input=None)
    assert caught.value.param == "input"
    assert "`input`" in caught.value.message
