"""What may stand at a path of a config, as the sections' annotations tell it."""

from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from proxy.settings.sections import Section, Settings

Path = Sequence[str | int]

UNIONS = (UnionType, Union)
"""`int | None` is the one, `Annotated[int, …] | None` the other."""


def types_at(path: Path) -> list[Any]:
    """Return the types a value at this path may have; none where nothing may stand."""
    kinds: list[Any] = [Settings]
    for part in path:
        kinds = [kind for outer in kinds for kind in _inside(outer, part)]
    return kinds


def keys_at(path: Path) -> list[str]:
    """Return the keys that the section at this path knows."""
    return [key for kind in types_at(path) if is_section(kind) for key in kind.model_fields]


def is_section(kind: Any) -> bool:
    """Tell whether a type is one of the sections."""
    return isinstance(kind, type) and issubclass(kind, Section)


def plain(annotation: Any) -> Iterator[Any]:
    """Yield an annotation's types without the `Annotated`, union or literal around them; a text enum is text."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from plain(get_args(annotation)[0])
    elif origin in UNIONS:
        for member in get_args(annotation):
            yield from plain(member)
    elif origin is Literal:
        yield from {type(value) for value in get_args(annotation)}
    elif isinstance(annotation, type) and issubclass(annotation, str):
        yield str
    else:
        yield annotation


def _inside(kind: Any, part: str | int) -> Iterator[Any]:
    if is_section(kind):
        field = kind.model_fields.get(str(part))
        yield from plain(field.annotation) if field else ()
    elif get_origin(kind) is dict:
        yield from plain(get_args(kind)[1])
    elif get_origin(kind) is tuple:
        yield from plain(get_args(kind)[0])
