"""
The most that a body may hold, so that reading it never keeps the event loop busy for long.

Counting before parsing is what makes it cheap: a parser's time goes with the values it makes, not with the bytes. A
body of 10 MB takes 10 ms as one text and 2.5 s as five million token ids.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from engine.faults import MalformedRequest

ESCAPED = 6
"""What a byte of text becomes at most, as JSON."""
CONTAINERS_MAX = 20_000
"""Lists and objects."""
STRINGS_MAX = 100_000
VALUES_MAX = 400_000
"""Values of lists and objects, whatever they are; token ids above all."""
_ESCAPED_MAX = 1_000_000
"""Quotes and backslashes that are worth telling apart."""

_SCHEMAS = ("response_format", "structured_outputs", "tools", "tool_choice", "chat_template_kwargs")
_LISTS = ("stop_token_ids", "bad_words", "allowed_token_ids", "logit_bias")
_COSTLY = frozenset({"stop", *_LISTS, *_SCHEMAS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Maxima:
    """What one request may ask at most; each stands in the config under the same name."""

    json_depth_max: int
    prompts_max: int
    inputs_max: int
    n_max: int
    logprobs_max: int
    stop_max: int
    stop_bytes_max: int
    tools_max: int
    schema_bytes_max: int
    entries_max: int


def check_size(body: bytes) -> int:
    """
    Return how many lists and objects a body has at most; raise `MalformedRequest` where there are too many values.

    Bounds: `CONTAINERS_MAX`, `STRINGS_MAX`, `VALUES_MAX`; characters inside texts count only where it comes to that.
    """
    containers = body.count(b"[") + body.count(b"{")
    if len(body) <= CONTAINERS_MAX:
        return containers
    quotes, values = body.count(b'"'), body.count(b",")
    if containers <= CONTAINERS_MAX and quotes <= 2 * STRINGS_MAX and values <= VALUES_MAX:
        return containers
    if quotes > 2 * _ESCAPED_MAX or body.count(b"\\") > 2 * _ESCAPED_MAX:
        raise MalformedRequest(f"The body holds more than {_ESCAPED_MAX} escaped characters.")
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') > 2 * STRINGS_MAX:
        raise MalformedRequest(f"The body holds more than {STRINGS_MAX} strings.")
    structure = b"".join(bare.split(b'"')[::2])
    containers = structure.count(b"[") + structure.count(b"{")
    if containers > CONTAINERS_MAX:
        raise MalformedRequest(f"The body holds more than {CONTAINERS_MAX} lists and objects.")
    if structure.count(b",") > VALUES_MAX:
        raise MalformedRequest(f"The body holds more than {VALUES_MAX} values.")
    return containers


def is_deeper(value: Any, levels: int) -> bool:
    """Tell whether lists and objects are nested more than `levels` deep."""
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not layer:
            return False
    return True


def check_fields(fields: dict[str, Any], maxima: Maxima) -> None:
    """Hold the fields that cost the engine, and that it does not bound itself, to their maxima."""
    if fields.keys().isdisjoint(_COSTLY):
        return
    _check_stop(fields.get("stop"), maxima)
    _check_entries(fields, maxima)
    tools = fields.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise MalformedRequest("`tools` must be a list.", "tools")
    if tools and len(tools) > maxima.tools_max:
        raise MalformedRequest(f"`tools` has more than {maxima.tools_max} entries.", "tools")
    for name in _SCHEMAS:
        value = fields.get(name)
        if isinstance(value, dict | list) and len(orjson.dumps(value)) > maxima.schema_bytes_max:
            raise MalformedRequest(f"`{name}` is larger than {maxima.schema_bytes_max} bytes of JSON.", name)


def _check_entries(fields: dict[str, Any], maxima: Maxima) -> None:
    for name in _LISTS:
        value = fields.get(name)
        if value is None:
            continue
        if not isinstance(value, dict if name == "logit_bias" else list):
            raise MalformedRequest(f"`{name}` must be {'an object' if name == 'logit_bias' else 'a list'}.", name)
        if len(value) > maxima.entries_max:
            raise MalformedRequest(f"`{name}` has more than {maxima.entries_max} entries.", name)


def _check_stop(stop: Any, maxima: Maxima) -> None:
    if stop is None:
        return
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise MalformedRequest("`stop` must be a string or a list of strings.", "stop")
    if len(stops) > maxima.stop_max:
        raise MalformedRequest(f"`stop` has more than {maxima.stop_max} entries.", "stop")
    if any(len(each.encode()) > maxima.stop_bytes_max for each in stops):
        raise MalformedRequest(f"`stop` has an entry of more than {maxima.stop_bytes_max} bytes.", "stop")
