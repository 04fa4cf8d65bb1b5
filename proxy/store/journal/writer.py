"""
The journal's hands on the disk: which segment is appended to, and what dead incarnations left.

Every function here may wait for the disk: it runs in the journal's own thread, and nothing of it is touched elsewhere.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from proxy.store.journal.failure import Failure
from proxy.store.journal.folder import Folder, orphans
from proxy.store.journal.segment import SUFFIX, Segment, check_room
from proxy.versions import NewerVersion

SEGMENT_BYTES_MAX = 8 * 1024 * 1024
LOOK_S = 0.4
"""Between two looks whether somebody removed it."""
SEGMENT_S = 10.0
"""A segment takes no more entries when it is this old."""

_log = logging.getLogger(__name__)


class Writer:
    """
    Writes into `root/name`, which it makes and owns once it has begun.

    `observe` is told the seconds of each write; `failed` is told of each file that holds what cannot be read.
    """

    def __init__(
        self, root: Path, name: str, *, observe: Callable[[float], None], failed: Callable[[Failure], None]
    ) -> None:
        self._root = root
        self._name = name
        self._observe = observe
        self._failed = failed
        self._active: Segment | None = None
        """Which segment is appended to."""
        self._made = 0
        self.removed = False
        """Whether somebody removed it, since somebody asked."""
        self._looked_at = time.monotonic()
        self.orphaned: list[str] = []
        """Incarnations whose folders were found without their owners, since somebody asked."""
        self._newer: set[Path] = set()
        """Folders that are left to a newer gateway, and told."""

    def begin(self) -> None:
        """
        Make the folder and be ready to write.

        Raises: OSError; then nothing is left behind.
        """
        self.folder = Folder.made(self._root, self._name)
        try:
            self.make()
        except OSError:
            self.folder.delete()
            raise

    def write(self, lines: list[bytes]) -> tuple[Segment, int]:
        """
        Write whole lines at once and return where they begin; they are on the disk.

        Raises: OSError; then none of them is there.
        """
        began = time.perf_counter()
        self.look()
        if self._active is None or _is_full(self._active):
            self.make()
        active = self._active
        assert active is not None
        try:
            start = active.append(b"".join(lines))
        except OSError:
            self.close()
            raise
        self._observe(time.perf_counter() - began)
        return active, start

    def make(self) -> None:
        """
        Go on in a new segment.

        Raises: OSError.
        """
        self.close()
        if not self.folder.there:
            self.folder.restore()
            self.removed = True
        self._made += 1
        self._active = Segment.made(self.folder, self._made)

    def look(self) -> None:
        """
        Look, at most each `LOOK_S`, whether folder and file are there, and room for more; make again what is not there.

        Raises: OSError.
        """
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        removed = False
        if not self.folder.there:
            self.folder.restore()
            removed = True
        if self._active is not None and not self._active.there:
            self._active.restore()
            removed = True
        if removed:
            _log.error("journal_removed", extra={"path": str(self.folder.path)})
            self._failed(Failure.REMOVED)
            self.removed = True
        check_room(self.folder.path)

    def close_old(self) -> None:
        """Write no more into a segment that is full or old, so that it may go."""
        if self._active is not None and self._active.size and _is_full(self._active):
            self.close()

    def close(self) -> None:
        """Write no more into the present segment; an empty one goes at once."""
        active, self._active = self._active, None
        if active is not None:
            active.close()
            if not active.size:
                active.delete()

    def take_back(self, segment: Segment, start: int) -> None:
        """Cut away what was written after nobody waited for it any more."""
        self.close()
        segment.cut(start)
        if not segment.size:
            segment.delete()

    def adopted(self) -> list[Segment]:
        """
        Take over and return the segments of every incarnation that has ended; damaged lines are kept aside.

        The folder of one that was newer than this gateway stays as it is.
        """
        found: list[Segment] = []
        for folder in orphans(self._root):
            try:
                segments = [self._found(folder, path) for path in sorted(folder.path.glob(f"*{SUFFIX}"))]
            except NewerVersion as error:
                self._leave(folder, error)
                continue
            except OSError:
                # The next try begins anew; nothing of it is deleted meanwhile.
                _log.exception("journal_unreadable", extra={"path": str(folder.path)})
                self._failed(Failure.DAMAGE)
                folder.release()
                continue
            found += segments
            self.orphaned.append(folder.path.name)
            if not segments:
                folder.delete()
        return found

    def _leave(self, folder: Folder, error: NewerVersion) -> None:
        folder.release()
        if folder.path not in self._newer:
            self._newer.add(folder.path)
            _log.error("journal_newer", extra={"path": str(folder.path), "reason": str(error)})
            self._failed(Failure.NEWER)

    def _found(self, folder: Folder, path: Path) -> Segment:
        segment, damaged = Segment.found(folder, path)
        if damaged:
            aside = folder.keep_aside(path.name, damaged)
            self._failed(Failure.DAMAGE)
            _log.error("journal_damaged", extra={"path": str(path), "lines": len(damaged), "kept": str(aside)})
        return segment


def _is_full(segment: Segment) -> bool:
    return segment.size >= SEGMENT_BYTES_MAX or time.monotonic() - segment.opened_at >= SEGMENT_S
