"""A set that is walked in the order in which it was filled, so that a seed always gives the same world."""

from collections.abc import Iterator, MutableSet
from typing import TypeVar

_T = TypeVar("_T")


class InOrder(MutableSet[_T]):
    """Python's own goes by addresses, which no seed tells."""

    def __init__(self) -> None:
        self._items: dict[_T, None] = {}

    def __contains__(self, item: object) -> bool:
        """Tell whether it is in there."""
        return item in self._items

    def __iter__(self) -> Iterator[_T]:
        """Walk through it."""
        return iter(self._items)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._items)

    def add(self, value: _T) -> None:
        """Put it behind the others, unless it is there."""
        self._items[value] = None

    def discard(self, value: _T) -> None:
        """Take it out, if it is there."""
        self._items.pop(value, None)
