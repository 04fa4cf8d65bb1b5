"""
What is different between two configs, by the path of each thing: `prices.demo.prompt`, `models.demo.replicas.demo-2`.

An entry of a list that has a name is known by it, so that one more at the front is one more, and not a change of all
that stand behind it. No value is told: a path says enough to whoever wrote it.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from proxy.settings.faults import dotted
from proxy.settings.sections import Settings

_NAMES = ("name", "issuer", "model")
"""What an entry of a list is known by: the first of these that it has."""


class ChangeKind(StrEnum):
    """What became of it."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Change(NamedTuple):
    """One thing that is different."""

    kind: ChangeKind
    path: str

    def __str__(self) -> str:
        """Say it in two words."""
        return f"{self.path} {self.kind}"


def changes(before: Settings, after: Settings) -> list[Change]:
    """Return what is different, in the order of the sections."""
    return list(_changes([], before.model_dump(mode="json"), after.model_dump(mode="json")))


def _changes(path: list[str | int], before: Any, after: Any) -> Iterator[Change]:
    if before == after:
        return
    old, new = _entries(before), _entries(after)
    if old is None or new is None:
        yield Change(ChangeKind.CHANGED, dotted(path))
        return
    for name in [*old, *(name for name in new if name not in old)]:
        here = [*path, name]
        if name not in new:
            yield Change(ChangeKind.REMOVED, dotted(here))
        elif name not in old:
            yield Change(ChangeKind.ADDED, dotted(here))
        else:
            yield from _changes(here, old[name], new[name])


def _entries(value: Any) -> dict[str, Any] | None:
    """Return what a table or a list of named tables holds, by name; None for anything else."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        return None
    named = {name: entry for entry in value if (name := _name(entry)) is not None}
    return named if len(named) == len(value) else None


def _name(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return None
    return next((str(entry[key]) for key in _NAMES if key in entry), None)
