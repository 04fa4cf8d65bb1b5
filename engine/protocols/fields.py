"""
The fields of a request's body: read and bounded, checked where the gateway counts on one, and the ones that pass.

Rules:
- A body is parsed, checked where the gateway counts on it, and re-encoded: nothing the client wrote goes on as bytes.
- Fields pass by an allow-list per protocol.
"""

from collections.abc import Collection
from typing import Any

import orjson

from engine.faults import MalformedRequest
from engine.protocols.bounds import Maxima, check_size, is_deeper

INTEGER_MAX = 2**31


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


def passing(fields: dict[str, Any], allowed: frozenset[str], extra: Collection[str]) -> tuple[dict[str, Any], int]:
    """Return a copy of the fields that may pass, and how many others there are."""
    if fields.keys() <= allowed:
        return fields.copy(), 0
    passed = {key: value for key, value in fields.items() if key in allowed or key in extra}
    return passed, len(fields) - len(passed)


def flag(fields: dict[str, Any], name: str) -> bool:
    """Return a field that is true or false, and false where it is left out; raise `MalformedRequest` for another."""
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise MalformedRequest(f"`{name}` must be true or false.", name)
    return bool(value)


def integer(fields: dict[str, Any], name: str, low: int, high: int) -> int | None:
    """Return a field within its bounds, or None where it is left out; raise `MalformedRequest` for any other."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedRequest(f"`{name}` must be an integer.", name)
    if not low <= value <= high:
        raise MalformedRequest(f"`{name}` must be between {low} and {high}.", name)
    return value
