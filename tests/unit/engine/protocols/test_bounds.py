"""A body with too many values is refused before it is parsed, and one with much text is not."""

import json
import time
from contextlib import suppress

import pytest

from engine.faults import MalformedRequest
from engine.protocols.bounds import CONTAINERS_MAX, STRINGS_MAX, VALUES_MAX, check_size, is_deeper


@pytest.mark.parametrize(
    "body",
    [
        b"[" * (CONTAINERS_MAX + 1),
        b'[{"a":' * (CONTAINERS_MAX // 2 + 1),
        b"[" + b'"a",' * (STRINGS_MAX + 1) + b"1]",
        b"{" + b'"a":1,' * (STRINGS_MAX + 1) + b"}",
        b"[" + b"1," * (VALUES_MAX + 1) + b"1]",
        b'["\\\\",' + b"1," * (VALUES_MAX + 1) + b"1]",
        b'["\\"",' + b"1," * (VALUES_MAX + 1) + b"1]",
    ],
)
def test_too_many_values(body: bytes) -> None:
    with pytest.raises(MalformedRequest, match="more than"):
        check_size(body)


@pytest.mark.parametrize("text", ["a, b; ", "[[{{", '"', "\\", '\\"', '",[', "\u20ac,"])
def test_what_stands_in_a_text_is_no_value(text: str) -> None:
    assert check_size(json.dumps({"a": text * 500_000}).encode()) <= CONTAINERS_MAX


def test_a_quote_that_is_never_closed_hides_nothing() -> None:
    """Such a body is no JSON: what counts is that it is not worth parsing for long."""
    check_size(b'["' + b"1," * (VALUES_MAX + 1))


@pytest.mark.parametrize(
    "body",
    [
        b"1," * 5_000_000,
        b'"a",' * 2_500_000,
        b'{"' * 4_000_000,
        rb"\"" * 5_000_000,
        rb"\\" * 5_000_000,
        b'["' + rb"\"," * 3_000_000 + b'"]',
    ],
)
def test_counting_is_quick(body: bytes) -> None:
    begun = time.process_time()
    with suppress(MalformedRequest):
        check_size(body)
    assert time.process_time() - begun < 1


def test_depth() -> None:
    assert is_deeper({"a": [{"b": [1]}]}, 3)
    assert not is_deeper({"a": [{"b": [1]}]}, 4)
    assert not is_deeper({}, 1)
