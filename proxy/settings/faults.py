"""
What is wrong with a config, in words for the person who must repair it.

A message never repeats a value from a field that may hold a secret: pydantic's `input` is left out throughout.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.fatal import Fatal
from proxy.settings.schema import keys_at


class ConfigFault(NamedTuple):
    """One thing to repair."""

    path: str
    """Such as `plans.pro.limits[2].amount`; empty for the file as a whole."""
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(Fatal):
    """A config that cannot be used, with all its faults."""

    def __init__(self, faults: Iterable[ConfigFault], source: str = "") -> None:
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


def of_validation(error: ValidationError) -> list[ConfigFault]:
    """Turn pydantic's errors into faults."""
    errors = error.errors(include_url=False, include_input=False)
    return [_fault(details) for details in errors if not _follows(details, errors)]


def in_order(faults: Iterable[ConfigFault]) -> list[ConfigFault]:
    """Return faults once each, by path, with `[2]` before `[10]`."""
    return sorted(set(faults), key=lambda fault: [_rank(part) for part in re.split(r"[.\[\]]+", fault.path)])


def _rank(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdecimal() else (-1, part)


def _follows(details: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    """Tell whether this only counts the sound entries of a list whose unsound ones are told."""
    where = details["loc"]
    return details["type"] == "too_short" and any(
        other["loc"][: len(where)] == where for other in errors if other is not details
    )


def _fault(details: ErrorDetails) -> ConfigFault:
    where = [part for part in details["loc"] if part != "[key]"]
    return ConfigFault(dotted(where), _message(details, where))


def _message(details: ErrorDetails, where: list[str | int]) -> str:
    match details["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            near = get_close_matches(str(where[-1]), keys_at(where[:-1]), n=1)
            return f"unknown key; did you mean {near[0]}?" if near else "unknown key"
        case "value_error":
            return str(details["ctx"]["error"])
        case "model_type" | "dict_type":
            return "must be a table"
        case "tuple_type":
            return "must be a list"
        case "too_short":
            return f"must have at least {details['ctx']['min_length']} entry"
        case "string_too_short":
            return "must not be empty"
        case _:
            message = details["msg"].replace("Input should", "must").replace("String should", "must")
            return message[:1].lower() + message[1:]
