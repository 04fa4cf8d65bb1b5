"""
The environment overlay: `TOLLWAY__MODELS__0__LAUNCH__ENGINE=vllm`.

- Two underscores separate the parts; a number indexes a list, and the number just past its end appends to it.
- Case does not matter: a part names the key of the file that equals it but for case, else the key in lower case.
- A value is read as TOML (`8081`, `true`, `["a", "b"]`) unless the field holds text or the value is no TOML: then it is
  taken as it stands, without quotes.
"""

import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from proxy.settings.faults import ConfigFault, dotted
from proxy.settings.schema import types_at

PREFIX = "TOLLWAY__"


class Misplaced(Exception):
    """A variable that points to no place where a value could stand."""


def overlay(document: dict[str, Any], env: Mapping[str, str], origins: dict[str, str]) -> Iterator[ConfigFault]:
    """
    Write each `TOLLWAY__…` variable into the document, in place, and into `origins` which path it set.

    Yields what points nowhere.
    """
    for name in sorted((name for name in env if name.startswith(PREFIX)), key=_order):
        try:
            origins[dotted(_write(document, name.removeprefix(PREFIX).split("__"), env[name]))] = name
        except Misplaced as misplaced:
            yield ConfigFault(name, str(misplaced))


def _order(name: str) -> list[tuple[int, str]]:
    """Order variables so that index 2 comes before index 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split("__")]


def _write(document: dict[str, Any], parts: list[str], text: str) -> list[str | int]:
    here: Any = document
    path: list[str | int] = []
    for part, following in pairwise(parts):
        path.append(_key(here, part))
        here = _step(here, path[-1], [] if following.isdecimal() else {})
    path.append(_key(here, parts[-1]))
    here[path[-1]] = _value(text, types_at(path))
    return path


def _key(here: Any, part: str) -> str | int:
    """Return the key or index that a part of a variable's name means in this table or list."""
    match here:
        case list() if part.isdecimal() and int(part) <= len(here):
            if int(part) == len(here):
                here.append({})
            return int(part)
        case list():
            raise Misplaced(f"expected an index from 0 to {len(here)}, not {part!r}")
        case dict() if part:
            return next((key for key in here if key.casefold() == part.casefold()), part.lower())
        case dict():
            raise Misplaced("has an empty part")
        case _:
            raise Misplaced(f"looks for {part!r} inside a value that is neither a table nor a list")


def _step(here: Any, key: str | int, empty: Any) -> Any:
    return here.setdefault(key, empty) if isinstance(here, dict) else here[key]


def _value(text: str, kinds: list[Any]) -> Any:
    if str in kinds or Path in kinds:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
