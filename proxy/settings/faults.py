"""
What is wrong with a config, in words for the person who must repair it.

A message never repeats a value from a field that may hold a secret: pydantic's `input` is left out throughout.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails


class Fault(NamedTuple):
    """One thing to repair."""

    path: str
    """Such as `plans.pro.limits[2].amount`; empty for the file as a whole."""
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(Exception):
    """A config that cannot be used, with all its faults."""

    def __init__(self, faults: Iterable[Fault], source: str = "") -> None:
        self.faults = list(faults)
        self.source = source
        """The file it was read from; empty when no file is to blame."""
        super().__init__("\n".join(f"{source}: {fault}" if source else str(fault) for fault in self.faults))


def dotted(parts: Sequence[str | int]) -> str:
    """Return a path as people write it: keys with dots, indices in brackets, odd keys in quotes."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            key = part if part.replace("_", "").replace("-", "").isalnum() else f'"{part}"'
            path += f".{key}" if path else key
    return path


def of_validation(error: ValidationError, known_keys: Iterable[str]) -> list[Fault]:
    """Turn pydantic's errors into faults; `known_keys` are offered for a misspelt key."""
    keys = sorted(set(known_keys))
    return [_fault(details, keys) for details in error.errors(include_url=False, include_input=False)]


def _fault(details: ErrorDetails, keys: list[str]) -> Fault:
    where = [part for part in details["loc"] if part != "[key]"]
    match details["type"]:
        case "missing":
            return Fault(dotted(where), "is missing")
        case "extra_forbidden":
            near = get_close_matches(str(where[-1]), keys, n=1)
            return Fault(dotted(where), f"unknown key; did you mean {near[0]}?" if near else "unknown key")
        case "value_error":
            return Fault(dotted(where), str(details["ctx"]["error"]))
        case "model_type":
            return Fault(dotted(where), "must be a table")
        case _:
            message = details["msg"].replace("Input should", "must").replace("valid tuple", "valid list")
            return Fault(dotted(where), message[:1].lower() + message[1:])
