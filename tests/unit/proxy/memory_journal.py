"""A write-ahead log without a disk, for a gateway without a socket; a test may have the disk be full."""

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path

from proxy.store.journal.folder import Folder
from proxy.store.journal.group import Append, Group
from proxy.store.journal.journal import Journal
from proxy.store.journal.segment import Segment


class MemoryJournal(Journal):
    """One segment, its entries in a list; a place is an index."""

    def __init__(self) -> None:
        super().__init__(Path(), "memory")
        self.payloads: list[bytes] = []
        self.full = False
        self._segments = [Segment(Folder(Path(), -1), Path(), 0)]

    @property
    def writable(self) -> bool:
        """Tell whether the disk has room."""
        return not self.full

    def append(self, payload: bytes) -> Append:
        """Append at once."""
        group = Group(asyncio.get_running_loop())
        append = group.add(payload)
        if self.full:
            group.failed(OSError(errno.ENOSPC, "No space left on device"))
        else:
            [segment] = self._segments
            segment.unsettled += 1
            group.written(segment, len(self.payloads))
            self.payloads.append(payload)
        return append

    async def read(self, segment: Segment, places: Sequence[int]) -> list[bytes | None]:
        """Return the payloads at these places."""
        return [self.payloads[place] for place in places]

    async def entries(self, segment: Segment) -> tuple[int, ...]:
        """Return every place."""
        return tuple(range(len(self.payloads)))

    async def beat(self) -> None:
        """Find Redis the same as before."""
