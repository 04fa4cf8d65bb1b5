"""One owner for a data directory; the kernel gives the lock back however its owner ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.fatal import Fatal


class DataDirInUse(Fatal):
    """Another process owns this data directory; the message names it."""


@contextmanager
def lock(data_dir: Path) -> Iterator[None]:
    """
    Own `data_dir`, which is created where it is missing.

    Raises: DataDirInUse.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = file.read().strip() or "unknown"
            raise DataDirInUse(f"{data_dir} is in use by another tollway (process {owner})") from None
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
