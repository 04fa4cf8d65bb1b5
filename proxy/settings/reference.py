"""
The operator's reference, written from the sections' docstrings: `python -m proxy.settings.reference`.

A test compares what stands in `deploy/config-reference.md` with what this writes.
"""

import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from proxy.settings.schema import UNIONS, is_section, plain
from proxy.settings.sections import Section, Settings

_HEAD = """# Config reference

Written by `python -m proxy.settings.reference`; change the docstrings in `proxy/settings/sections/` instead.

Tollway reads one TOML file: the one that `--config` names, else `./tollway.toml`, else the demo config in the package.
`tollway check FILE` prints every fault of a file at once, each with its path. Unknown keys are faults.

- **Environment.** `TOLLWAY__SECTION__FIELD` stands over the file: `TOLLWAY__LISTEN__PORT=8081`,
  `TOLLWAY__MODELS__0__LAUNCH__ENGINE=vllm`. A number indexes a list; the one just past its end appends to it. Values
  are read as TOML, text without quotes.
- **Secrets** stand in files of their own, which the fields ending in `_file` name.
- **Paths** are taken from the config file's folder, those of the demo config from the current directory.
"""


def markdown() -> str:
    """Return the whole reference."""
    return "\n".join([_HEAD, *_section(Settings, "")]).rstrip("\n") + "\n"


def _section(section: type[Section], path: str) -> Iterator[str]:
    rows = [row for name, field in section.model_fields.items() if (row := _row(name, field))]
    if path:
        yield f"## `{path}`\n\n{_one_line(section.__doc__)}\n"
    if rows:
        yield "| field | type | default | |\n|---|---|---|---|"
        yield from rows
        yield ""
    for name, field in section.model_fields.items():
        for inner, below in _below(name, field, path.strip("[]")):
            yield from _section(inner, below)


def _below(name: str, field: FieldInfo, path: str) -> Iterator[tuple[type[Section], str]]:
    """Yield the sections in a field, each with its TOML heading."""
    full = f"{path}.{name}" if path else name
    for kind in plain(field.annotation):
        if is_section(kind):
            yield kind, f"[{full}]"
        elif get_origin(kind) is dict:
            yield get_args(kind)[1], f"[{full}.NAME]"
        elif get_origin(kind) is tuple and is_section(get_args(kind)[0]):
            yield get_args(kind)[0], f"[[{full}]]"


def _row(name: str, field: FieldInfo) -> str | None:
    if any(_below(name, field, "")):
        return None
    kind = ", ".join([_type(field.annotation), *_range(field)])
    return f"| `{name}` | {kind} | {_default(field)} | {_one_line(field.description)} |"


def _type(annotation: Any) -> str:
    """Return a type in an operator's words."""
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) in UNIONS:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return f"list of {_type(get_args(annotation)[0])}"
    if get_origin(annotation) is Literal:
        return " ".join(f"`{value}`" for value in get_args(annotation))
    if issubclass(annotation, StrEnum):
        return " ".join(f"`{value}`" for value in annotation)
    return {str: "text", int: "integer", float: "number", bool: "boolean"}.get(annotation, "path")


def _range(field: FieldInfo) -> Iterator[str]:
    for sign, bound in (("≥", "ge"), (">", "gt"), ("≤", "le"), ("<", "lt")):
        for limit in field.metadata:
            if (value := getattr(limit, bound, None)) is not None:
                yield f"{sign} {value}"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    return "" if field.default is None else f"`{_toml(field.default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return str(value) if isinstance(value, int | float) else f'"{value}"'


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(markdown())
