"""Entries that go to the disk together, and how each of them learns where it stands."""

import asyncio
from collections.abc import Generator
from typing import Any, NamedTuple

from proxy.errors import JournalUnavailable
from proxy.store.journal.lines import line_of
from proxy.store.journal.segment import Segment


class Position(NamedTuple):
    """Where an entry stands."""

    segment: Segment
    start: int


class Group(asyncio.Future[None]):
    """
    One write: done when it is on the disk or has failed.

    All its entries wait for this one future, so none of them may cancel it: a waiter that is cancelled learns first how
    the write went, and is cancelled then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.lines: list[bytes] = []
        self.size = 0
        self.segment: Segment | None = None
        self.start = 0
        self.fault: BaseException | None = None

    def cancel(self, msg: Any = None) -> bool:
        """Refuse."""
        return False

    def add(self, payload: bytes) -> "Append":
        """Take in one more entry."""
        line = line_of(payload)
        append = Append(self, self.size)
        self.lines.append(line)
        self.size += len(line)
        return append

    def written(self, segment: Segment, start: int) -> None:
        """Tell every entry where it stands."""
        self.segment, self.start = segment, start
        self.set_result(None)

    def failed(self, fault: BaseException) -> None:
        """Tell every entry that it is not on the disk."""
        self.fault = fault
        self.set_result(None)


class Append:
    """
    One entry on its way: `await` it for its `Place`.

    Raises: JournalUnavailable.
    """

    __slots__ = ("_group", "_offset")

    def __init__(self, group: Group, offset: int) -> None:
        self._group = group
        self._offset = offset

    def __await__(self) -> Generator[Any, None, Position]:
        group = self._group
        yield from group.__await__()
        if group.segment is None:
            raise JournalUnavailable from group.fault
        return Position(group.segment, group.start + self._offset)
