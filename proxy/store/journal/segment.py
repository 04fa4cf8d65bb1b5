"""
One file of entries: appended to by the incarnation that made it, read by whoever sends its entries again.

Rules:
- What `append` returned from is on the disk (O_DSYNC), and so is the file's name.
- A write that failed is cut away again, and nothing more is appended behind it: after a failed sync the kernel may have
  dropped what it held, so only what was whole before is believed.

Every function here may wait for the disk: it runs in the journal's own thread.
"""

import errno
import os
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from proxy.store.journal.folder import Folder, synced
from proxy.store.journal.lines import Damaged, payload_of, scan
from proxy.versions import NewerVersion

SUFFIX = ".wal"
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_DSYNC | os.O_CLOEXEC
ROOM_BYTES = 256 * 1024
"""What must be free for a new segment: a disk with less is full, whatever single line would still fit."""


class Segment:
    """
    One file, and which of its entries are not settled.

    Units: `size` in bytes; `settled_at`, `opened_at` in seconds of the monotonic clock.
    Bounds: 8 bytes of memory for each owed and each doubted entry.
    """

    def __init__(self, folder: Folder, path: Path, size: int) -> None:
        self.folder = folder
        self.path = path
        self.size = size
        self.opened_at = time.monotonic()
        self.settled_at = self.opened_at
        """When the last of its entries became known to be settled."""
        self.unsettled = 0
        """How many entries are not known to be settled: those whose answer is awaited, and the owed."""
        self.owed = array("Q")
        """Where the entries begin that are to be sent again, in the order in which they are tried."""
        self.doubted = array("Q")
        """Where the entries begin that Redis may have lost, likewise; settled or not."""
        self._fd: int | None = None

    @classmethod
    def made(cls, folder: Folder, number: int) -> "Segment":
        """
        Make an empty one and be ready to append.

        Raises: OSError, when the disk has no room for it or cannot be written.
        """
        path = folder.path / f"{number:08d}{SUFFIX}"
        segment = cls(folder, path, 0)
        fd = os.open(path, _NEW, 0o600)
        try:
            os.posix_fallocate(fd, 0, ROOM_BYTES)
            os.ftruncate(fd, 0)
            synced(folder.path)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        segment._fd = fd
        return segment

    @classmethod
    def found(cls, folder: Folder, path: Path) -> "tuple[Segment, list[bytes]]":
        """
        Take over the file of a dead incarnation: its entries are owed; return also the lines that are damaged.

        A torn tail is cut away.
        Raises: OSError; NewerVersion, and then nothing is changed.
        """
        data = path.read_bytes()
        seen = scan(data)
        if seen.newer:
            raise NewerVersion(seen.newer)
        if seen.end < len(data):
            os.truncate(path, seen.end)
        segment = cls(folder, path, seen.end)
        segment.owed.extend(seen.entries)
        segment.unsettled = len(seen.entries)
        return segment, [data[start:end] for start, end in seen.damaged]

    @property
    def open(self) -> bool:
        """Tell whether more may be appended."""
        return self._fd is not None

    @property
    def there(self) -> bool:
        """Tell whether its file is still the one of its name."""
        try:
            return self._fd is None or os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            return False

    def restore(self) -> None:
        """
        Write it again where somebody removed its file while it is open; every entry stands where it stood.

        Raises: OSError.
        """
        assert self._fd is not None
        data = os.pread(self._fd, self.size, 0)
        fd = os.open(self.path, _NEW, 0o600)
        try:
            if os.write(fd, data) != self.size:
                raise OSError("the disk took a part only")
            synced(self.folder.path)
            os.dup2(fd, self._fd, inheritable=False)
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)

    def append(self, data: bytes) -> int:
        """
        Append whole lines and return where they begin; they are on the disk.

        Raises: OSError; then none of them is there, and the segment is closed.
        """
        assert self._fd is not None
        start = self.size
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                # A short write is the last before an error, which the next one names.
                written += os.write(self._fd, data[written:])
        except OSError:
            self.cut(start)
            raise
        self.size += len(data)
        return start

    def cut(self, end: int) -> None:
        """Take back what was appended from `end` on, and append no more."""
        with suppress(OSError):
            os.truncate(self.path, end)
        self.size = end
        self.close()

    def close(self) -> None:
        """Append no more."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):
                os.close(fd)

    def entries(self) -> tuple[int, ...]:
        """Return where every entry begins, settled or not."""
        return scan(self.path.read_bytes()[: self.size]).entries

    def read(self, places: Sequence[int]) -> list[bytes | None]:
        """Return the payload of the entry at each place; None for what is damaged since it was written."""
        with self.path.open("rb") as file:
            return [_payload(_line(file, place)) for place in places]

    def delete(self) -> None:
        """Delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)


def check_room(folder: Path) -> None:
    """Raise OSError where a disk has too little room for a segment or takes no writes, before a write meets that."""
    disk = os.statvfs(folder)
    if disk.f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    if disk.f_bavail * disk.f_frsize < ROOM_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _line(file: BinaryIO, place: int) -> bytes:
    file.seek(place)
    return file.readline()


def _payload(line: bytes) -> bytes | None:
    try:
        return payload_of(line)
    except (Damaged, NewerVersion):
        return None
