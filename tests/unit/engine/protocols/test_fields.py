"""Which bodies are read at all."""

from dataclasses import replace
from typing import Any

import pytest

from engine.faults import MalformedRequest
from engine.protocols.chat import CHAT
from engine.protocols.fields import left_out, passing, read_fields
from tests.unit.engine.protocols.parsing import MAXIMA, request


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b'"' + b"[" * 100 + b'"',
        b"null",
        b'{"model":"demo"} trailing',
        b'{"model":"\xff"}',
        rb'{"model":"\ud800"}',
        b'{"model":NaN}',
        b'{"model":"demo","messages":[{"content":' + b"[" * 2_000 + b"]" * 2_000 + b"}]}",
    ],
)
def test_a_body_that_is_no_json_object_names_no_field(body: bytes) -> None:
    with pytest.raises(MalformedRequest) as caught:
        read_fields(body, replace(MAXIMA, json_depth_max=64))
    assert caught.value.param is None


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else "deep"


@pytest.mark.parametrize("field", ["messages", "documents", "unknown"])
def test_nesting_is_bounded_everywhere(field: str) -> None:
    # The body itself is the first of ten levels, and messages are lists of objects.
    at_the_bound = [{"role": "user", "more": nested(7)}] if field == "messages" else nested(9)
    beyond = [{"role": "user", "more": nested(8)}] if field == "messages" else nested(10)
    request(CHAT, **{field: at_the_bound})
    with pytest.raises(MalformedRequest, match="10 levels"):
        request(CHAT, **{field: beyond})


def test_many_brackets_side_by_side_are_no_nesting() -> None:
    assert request(CHAT, messages=[{"role": "user", "content": "[[[[{{{{"}] * 50).prompts == 1


def test_fields_pass_by_a_list_and_the_others_are_known_in_their_order() -> None:
    fields = {"z": 1, "model": "m", "a": 2, "b": 3}
    allowed = frozenset({"model", "b", "c"})
    assert passing(fields, allowed, {"z"}) == {"z": 1, "model": "m", "b": 3}
    assert left_out(fields, allowed, {"z"}) == ("a",)
    assert left_out(fields, allowed, ()) == ("z", "a")
    assert left_out({"b": 1}, allowed, ()) == ()


def test_what_passes_is_a_copy() -> None:
    fields = {"model": "m"}
    passing(fields, frozenset({"model"}), ())["more"] = 1
    assert fields == {"model": "m"}
