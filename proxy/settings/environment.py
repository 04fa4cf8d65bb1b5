"""
The environment overlay: `TOLLWAY__MODELS__0__LAUNCH__ENGINE=vllm`.

- Two underscores separate the parts; a number indexes a list, and the number just past its end appends a table to it.
- Case does not matter: a part names the key of the file that equals it but for case, else the key in lower case.
- A value is read as TOML (`8081`, `true`, `["a", "b"]`) unless the field holds text or the value is no TOML: then it is
  taken as it stands, without quotes.
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from proxy.settings.faults import Fault
from proxy.settings.sections import Settings

PREFIX = "TOLLWAY__"


class Misplaced(Exception):
    """A variable that points to no place a value could stand."""


def overlay(document: dict[str, Any], env: Mapping[str, str]) -> Iterator[Fault]:
    """Write each `TOLLWAY__…` variable into the document, in place; yield what points nowhere."""
    names = sorted((name for name in env if name.startswith(PREFIX)), key=_order)
    for name in names:
        try:
            _write(document, name.removeprefix(PREFIX).split("__"), env[name])
        except Misplaced as misplaced:
            yield Fault(name, str(misplaced))


def _order(name: str) -> list[tuple[int, str]]:
    """Order variables so that index 2 comes before index 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split("__")]


def _write(document: dict[str, Any], parts: list[str], text: str) -> None:
    here: Any = document
    kinds: list[Any] = [Settings]
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        key = _key(here, part)
        kinds = [kind for outer in kinds for kind in _inside(outer, key)]
        if following is None:
            here[key] = _value(text, kinds)
        else:
            here = _step(here, key, [] if following.isdecimal() else {})


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
            raise Misplaced(f"{part!r} is looked for inside a value that is neither a table nor a list")


def _step(here: Any, key: str | int, empty: Any) -> Any:
    if isinstance(here, dict):
        return here.setdefault(key, empty)
    return here[key]


def _value(text: str, kinds: list[Any]) -> Any:
    if str in kinds or Path in kinds:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _inside(kind: Any, key: str | int) -> Iterator[Any]:
    """Yield the types that `kind` may hold under a key, as far as they are known."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(key))
        yield from _plain(field.annotation) if field else ()
    elif get_origin(kind) is dict:
        yield from _plain(get_args(kind)[1])
    elif get_origin(kind) is tuple:
        yield from _plain(get_args(kind)[0])


def _plain(annotation: Any) -> Iterator[Any]:
    """Yield an annotation's types without `Annotated`, unions and literals around them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _plain(get_args(annotation)[0])
    elif origin is UnionType:
        for member in get_args(annotation):
            yield from _plain(member)
    elif origin is Literal:
        yield from {type(value) for value in get_args(annotation)}
    elif isinstance(annotation, type) and issubclass(annotation, str):
        yield str
    else:
        yield annotation
