"""
The fields of a request's body: read and bounded, checked where the gateway counts on one, and the ones that pass.

Rules:
- A body is parsed, checked where the gateway counts on it, and re-encoded: nothing the client wrote goes on as bytes.
- Fields pass by an allow-list per protocol.
- A number or a flag in another spelling is read as vLLM's own models read it (pydantic's lenient mode), and what was
  read goes on instead of the spelling, so that the engine cannot read it otherwise.
"""

import re
from collections.abc import Collection
from typing import Any

import orjson

from engine.faults import MalformedRequest
from engine.protocols.bounds import Maxima, check_size, is_deeper

INTEGER_MAX = 2**31

_TRUE = frozenset({1, "true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({0, "false", "f", "no", "n", "off", "0"})
_INTEGER = re.compile(r"\s*([+-]?[0-9]+(?:_[0-9]+)*)(?:\.0+)?\s*")
_INTEGER_CHARACTERS_MAX = 64


def read_fields(body: bytes, maxima: Maxima) -> tuple[dict[str, Any], str]:
    """Return a body's fields, and the model among them; raise `MalformedRequest` for what is no such object."""
    containers = check_size(body)
    depth_max = maxima.json_depth_max
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"The body is not valid JSON: {error.msg} at byte {error.pos}.") from None
    if not isinstance(fields, dict):
        raise MalformedRequest("The body must be a JSON object.")
    if containers > depth_max and is_deeper(fields, depth_max):
        raise MalformedRequest(f"The body is nested more than {depth_max} levels deep.")
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise MalformedRequest("`model` must be a non-empty string.", "model")
    return fields, model


def passing(fields: dict[str, Any], allowed: frozenset[str], extra: Collection[str]) -> dict[str, Any]:
    """Return a copy of the fields that may pass."""
    if fields.keys() <= allowed:
        return fields.copy()
    return {key: value for key, value in fields.items() if key in allowed or key in extra}


def left_out(fields: dict[str, Any], allowed: frozenset[str], extra: Collection[str]) -> tuple[str, ...]:
    """Return the names of the fields that may not, in the order in which they were given."""
    if fields.keys() <= allowed:
        return ()
    return tuple(key for key in fields if key not in allowed and key not in extra)


def flag(fields: dict[str, Any], name: str) -> bool:
    """
    Return a field that is true or false, and false where it is left out; what goes on is what was read.

    Raises: MalformedRequest, for what is neither.
    """
    value = fields.get(name)
    if value is None:
        return False
    if type(value) is not bool:
        value = fields[name] = _as_flag(name, value)
    return value


def integer(fields: dict[str, Any], name: str, low: int, high: int) -> int | None:
    """
    Return a field within its bounds, or None where it is left out; what goes on is what was read.

    Raises: MalformedRequest, for what is no such number.
    """
    value = fields.get(name)
    if value is None:
        return None
    if type(value) is not int:
        value = fields[name] = _as_integer(name, value)
    if not low <= value <= high:
        raise MalformedRequest(f"`{name}` must be between {low} and {high}.", name)
    return value


def _as_flag(name: str, value: Any) -> bool:
    if isinstance(value, str):
        value = value.lower()
    if isinstance(value, str | int | float):
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
    raise MalformedRequest(f"`{name}` must be true or false.", name)


def _as_integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    if isinstance(value, str) and len(value) <= _INTEGER_CHARACTERS_MAX and (found := _INTEGER.fullmatch(value)):
        return int(found[1])
    raise MalformedRequest(f"`{name}` must be an integer.", name)
