"""
What two replicas' answers to the same request must have in common: their shape.

That is the status, header names and their order, content type, the order of the JSON keys and the types of the values
at every depth, the grammar of a stream's frames, one frame per HTTP chunk. Ids, times, texts and token counts are free;
error messages are not.
"""

from itertools import groupby
from typing import Any

import orjson

from tests.record_vllm import KEPT_AT_EACH_END
from tests.sim_process import parsed

SAID = ("object", "finish_reason", "role", "index", "model", "message", "type", "code", "param", "detail")
"""Keys whose strings and numbers must be the same, not only of the same type."""


def shape(value: Any, key: str = "") -> Any:
    """Return what of a JSON value has to be the same in every replica."""
    if key == "top_logprobs" and isinstance(value, list):
        return [len(one) if "token" not in one else shape(one) for one in value]
    if key == "bytes":
        return "bytes"
    if isinstance(value, dict):
        return [(name, shape(inner, name)) for name, inner in value.items()]
    if isinstance(value, list):
        return [shape(one, key) for one in value]
    return value if key in SAID else type(value).__name__


def frame_order(frame: Any) -> tuple[int, int]:
    """Return a frame's rank where choices are free to interleave: roles, each choice's content, the rest."""
    choices = frame["choices"] if isinstance(frame, dict) and "choices" in frame else []
    if not choices:
        return (2, 0)
    return (0 if "role" in choices[0].get("delta", {}) else 1, choices[0]["index"])


def shape_of_body(response: dict[str, Any], *, merged: bool = False) -> Any:
    """Return the shape of a whole body; `merged` makes one of a choice's equal frames, which vLLM is free to merge."""
    chunks = response["chunks"]
    if dict(response["headers"]).get("content-type", "").startswith("text/event-stream"):
        frames = [parsed(chunk) for chunk in chunks]
        assert [frame_order(frame)[0] for frame in frames] == sorted(frame_order(frame)[0] for frame in frames)
        shapes = [shape(frame) for frame in sorted(frames, key=frame_order)]
        return [one for one, _ in groupby(shapes)] if merged else shapes
    return [shape(orjson.loads(chunk)) if chunk else "" for chunk in chunks]


def head_of(response: dict[str, Any]) -> Any:
    """Return status, header names in order, and content type."""
    names = [name for name, _ in response["headers"]]
    return response["status"], names, dict(response["headers"]).get("content-type")


def assert_alike(simulated: dict[str, Any], recorded: dict[str, Any], *, merged: bool = False) -> None:
    """Compare two responses."""
    assert head_of(simulated) == head_of(recorded)
    assert shape_of_body(simulated, merged=merged) == shape_of_body(recorded, merged=merged)


def assert_usage_consistent(response: dict[str, Any], n: int) -> None:
    """Check that usage adds up: in each object, and the last one over all choices' latest."""
    usages: list[tuple[int | None, dict[str, Any]]] = []
    for chunk in response["chunks"]:
        if "usage" not in chunk:
            continue
        value = parsed(chunk) if chunk.startswith("data: ") else orjson.loads(chunk)
        usages.append((value["choices"][0]["index"] if value["choices"] else None, value["usage"]))
    for _, usage in usages:
        assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
    latest = {index: usage for index, usage in usages if index is not None}
    if len(usages) < 2 or not latest:
        return
    final = usages[-1][1]
    assert final["completion_tokens"] == sum(usage["completion_tokens"] for usage in latest.values())
    assert final["prompt_tokens"] == sum(latest[index]["prompt_tokens"] for index in range(0, len(latest), n))


def whoever(frame: Any) -> Any:
    """Leave out which choice a content frame belongs to: choices are free to take turns."""
    if isinstance(frame, dict) and frame.get("choices") and frame["choices"][0]["finish_reason"] is None:
        return {**frame, "choices": [{**frame["choices"][0], "index": 0}]}
    return frame


def assert_ends_alike(simulated: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Compare two long streams by their heads, their first frames and their last."""
    assert head_of(simulated) == head_of(recorded)
    first, last = slice(KEPT_AT_EACH_END), slice(-KEPT_AT_EACH_END, None)
    for part in (first, last):
        ours, theirs = ([parsed(chunk) for chunk in one["chunks"][part]] for one in (simulated, recorded))
        assert [shape(whoever(frame)) for frame in ours] == [shape(whoever(frame)) for frame in theirs]
