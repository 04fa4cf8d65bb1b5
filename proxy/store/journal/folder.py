"""
Who owns which part of the log: one folder for each incarnation, locked for as long as it lives.

The kernel gives the lock back however its owner ends, so that a new start takes over what is orphaned and never what
another gateway still writes.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOCK = "lock"
DAMAGED = "damaged"
"""Beside the folders: lines that could not be read, for a person to look at."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One incarnation's folder, owned by this process."""

    path: Path
    lock_fd: int

    @classmethod
    def made(cls, root: Path, name: str) -> "Folder":
        """
        Make and own a folder. It is locked before it has the name by which others look for it.

        Raises: OSError.
        """
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        making = root / f".{name}"
        making.mkdir(mode=0o700)
        folder = cls.claimed(making)
        assert folder is not None
        making.rename(root / name)
        synced(root)
        return cls(root / name, folder.lock_fd)

    @classmethod
    def claimed(cls, path: Path) -> "Folder | None":
        """Own a folder whose owner has ended; None while it lives, or when somebody else has dealt with it."""
        try:
            fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if os.fstat(fd).st_nlink == 0:
            # Its last owner deleted it between our two calls.
            os.close(fd)
            return None
        return cls(path, fd)

    @property
    def there(self) -> bool:
        """Tell whether it is still the one that others would find."""
        try:
            return os.path.samestat(os.stat(self.path / LOCK), os.fstat(self.lock_fd))
        except OSError:
            return False

    def restore(self) -> None:
        """
        Make it again where somebody removed it, and own it; what owned it before stays valid.

        Raises: OSError.
        """
        if self.path.is_dir():
            again = Folder.claimed(self.path)
            if again is None:
                raise FileExistsError(f"{self.path} was taken over by another start")
        else:
            again = Folder.made(self.path.parent, self.path.name)
        os.dup2(again.lock_fd, self.lock_fd, inheritable=False)
        os.close(again.lock_fd)

    def release(self) -> None:
        """Unlock it, for the next one that comes."""
        os.close(self.lock_fd)

    def delete(self) -> None:
        """Delete it, once its segments are gone."""
        (self.path / LOCK).unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()
        self.release()

    def keep_aside(self, name: str, lines: list[bytes]) -> Path:
        """Write damaged lines where no replay looks; return where."""
        aside = self.path.parent / DAMAGED
        aside.mkdir(mode=0o700, exist_ok=True)
        path = aside / f"{self.path.name}-{name}"
        path.write_bytes(b"".join(lines))
        return path


def orphans(root: Path) -> Iterator[Folder]:
    """Own, one after the other, every folder whose incarnation has ended."""
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.name != DAMAGED and not path.name.startswith(".") and path.is_dir():
            folder = Folder.claimed(path)
            if folder is not None:
                yield folder


def synced(path: Path) -> None:
    """Put on the disk which files a folder has."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
