"""
Where the embedded Redis listens: `redis.sock` in the data directory.

The kernel bounds a socket's path. A longer one is reached through a symlink in the temporary directory, whose name
follows from the data directory, so that another command finds it again.
"""

import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.fatal import Fatal

NAME = "redis.sock"
PATH_BYTES_MAX = 100
"""The kernel takes 107 on Linux and 103 elsewhere."""


class ForeignShortcut(Fatal):
    """Something that is not ours stands where the symlink to the data directory belongs."""


def path(data_dir: Path) -> Path:
    """Return the socket's absolute path, short enough for the kernel."""
    direct = data_dir.resolve() / NAME
    return direct if len(os.fsencode(direct)) <= PATH_BYTES_MAX else _shortcut(direct.parent) / NAME


@contextmanager
def reachable(data_dir: Path) -> Iterator[Path]:
    """
    Keep `path(data_dir)` usable, by a symlink where it needs one.

    Raises: ForeignShortcut.
    """
    short = path(data_dir)
    folder = data_dir.resolve()
    if short.parent == folder:
        yield short
        return
    link = short.parent
    if not _ours(link, folder):
        try:
            link.symlink_to(folder)
        except FileExistsError:
            raise ForeignShortcut(f"{link} is in the way of a socket for {folder}; remove it") from None
    try:
        yield short
    finally:
        link.unlink(missing_ok=True)


def listens(short: Path) -> bool:
    """Tell whether a server of ours accepts connections there."""
    if short.parent.is_symlink() and short.parent.lstat().st_uid != os.getuid():
        return False
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(os.fspath(short))
        except OSError:
            return False
    return True


def _shortcut(folder: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()
    return Path(tempfile.gettempdir()).resolve() / f"tollway-{digest[:16]}"


def _ours(link: Path, folder: Path) -> bool:
    return link.is_symlink() and link.lstat().st_uid == os.getuid() and link.readlink() == folder
