"""
What vLLM's own request models take, and in which spelling, is taken here and means the same.

The table is recorded from the models of vLLM 0.32.0 by `tests/record_vllm_requests.py`.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.faults import MalformedRequest
from engine.protocols.base import ApiProtocol, ParsedRequest
from engine.protocols.registry import PROTOCOLS
from tests.transcripts import FOLDER
from tests.unit.engine.protocols.parsing import MAXIMA, MINIMAL

TABLE = json.loads(Path(f"{FOLDER}-requests.json").read_text())
ROWS: list[dict[str, Any]] = TABLE["verdicts"]
BOUNDS = {"n": (1, 8), "logprobs": (0, 20), "top_logprobs": (0, 20), "min_tokens": (0, 2**31)}
"""Of numbers that vLLM takes and bounds elsewhere, or we do."""
TEXTS = [row for row in ROWS if row["field"] in ("prompt", "input")]
STRICTER = [[1.0, 2.0], [[1.0]], [True], [[True]], [["1"], ["2"]], [1, "2"], [], [[]], [[1], []]]
"""Prompts that vLLM takes and we do not: ids in other spellings, and nothing at all."""
LEFT_TO_THE_ENGINE = ["", [-1], [[-1]]]
"""Prompts that vLLM refuses by what they say, and not by their shape."""


def parsed(row: dict[str, Any]) -> ParsedRequest:
    outer, _, inner = row["field"].partition(".")
    fields = {"stream": True, outer: {inner: row["value"]}} if inner else {outer: row["value"]}
    body = json.dumps(MINIMAL[row["endpoint"]] | fields).encode()
    return PROTOCOLS[row["endpoint"]].parse(body, replace(MAXIMA, stop_max=8))


def read(request: ParsedRequest, row: dict[str, Any]) -> Any:
    """Return what the engine reads in the place of the row's value."""
    value: Any = request.fields
    for name in row["field"].split("."):
        value = value[name]
    return value


def same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)


def name(row: dict[str, Any]) -> str:
    return f"{row['endpoint']}-{row['field']}-{row['value']!r:.20}"


def fits(row: dict[str, Any]) -> bool:
    """Tell whether a number that vLLM's model takes is within the bounds."""
    if type(row["taken"]) is not int:
        return True
    low, high = BOUNDS.get(row["field"], (1, 2**31))
    return low <= row["taken"] <= high


SCALARS = [row for row in ROWS if row not in TEXTS]


@pytest.mark.parametrize("row", [row for row in SCALARS if "taken" in row and fits(row)], ids=name)
def test_what_vllm_takes_is_taken_as_the_same_and_goes_on_so(row: dict[str, Any]) -> None:
    request = parsed(row)
    assert same(read(request, row), row["taken"])
    counted = {
        "stream": request.stream,
        "n": request.n,
        "max_tokens": request.max_completion,
        "max_completion_tokens": request.max_completion,
        "min_tokens": request.min_completion,
        "stream_options.include_usage": request.include_usage,
        "stream_options.continuous_usage_stats": request.continuous_usage,
    }
    assert same(counted.get(row["field"], row["taken"]), row["taken"])


@pytest.mark.parametrize("row", [row for row in SCALARS if "taken" in row and not fits(row)], ids=name)
def test_a_number_beyond_its_bounds_is_refused_in_every_spelling(row: dict[str, Any]) -> None:
    with pytest.raises(MalformedRequest, match="between"):
        parsed(row)


@pytest.mark.parametrize("row", [row for row in SCALARS if "taken" not in row], ids=name)
def test_what_vllm_refuses_is_refused_or_goes_on_as_it_was_read(row: dict[str, Any]) -> None:
    # vLLM takes no text for a number of alternatives, because it looks at it before its model does.
    is_alternatives = row["field"] == "top_logprobs" or (row["endpoint"], row["field"]) == ("completions", "logprobs")
    try:
        request = parsed(row)
    except MalformedRequest:
        return
    assert is_alternatives
    assert type(read(request, row)) is int


@pytest.mark.parametrize("row", TEXTS, ids=name)
def test_prompts_are_taken_in_the_shapes_that_vllm_takes(row: dict[str, Any]) -> None:
    taken = "taken" in row and not any(same(row["value"], value) for value in STRICTER)
    if not taken and row["value"] not in LEFT_TO_THE_ENGINE:
        with pytest.raises(MalformedRequest):
            parsed(row)
        return
    assert same(read(parsed(row), row), row["value"])


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_each_field_of_vllms_passes_or_is_withheld_on_purpose(protocol: ApiProtocol) -> None:
    assert protocol.fields.isdisjoint(protocol.withheld)
    assert protocol.fields | protocol.withheld == set(TABLE["fields"][protocol.name])
