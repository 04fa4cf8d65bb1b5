"""
The embedded Redis: a `redis-server` of our own, its data on disk, reached by a unix socket under the data directory.

Rules:
- One owner for a data directory (`lock.py`). A server left over from a killed owner is shut down before ours starts.
- What is answered OK is in the append-only file within a second; nothing is ever evicted.
- One that dies is started again at the same address with the same data (`engine.runtime.keeper`).
- Its data stay readable for any server from version 7 on, of Redis or Valkey, newer or older (`binary.py` says which of
  those at hand is taken): what is written anew is commands, since snapshots differ from one to the other.

Must not know what is stored. It is for one machine; a fleet brings a Redis of its own.
"""

import asyncio
import logging
import os
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from engine.runtime.keeper import Keeper, kept
from engine.runtime.process import Child, told
from proxy.fatal import Fatal
from proxy.redis.embedded import local_socket
from proxy.redis.embedded.binary import EmbeddedRedisUnusable, candidates, fit
from proxy.redis.embedded.lock import lock

READY_S_MAX = 600.0
"""Loading a large append-only file takes its time; an empty one is there in milliseconds."""
STOP_S_MAX = 10.0
REWRITE_BYTES_MIN = 256 * 2**20
"""A smaller append-only file is not written anew, whatever it grew from: it loads in two seconds. From Redis' own 64 MB
on, a busy gateway's is forked every few seconds, which halts Redis for milliseconds and takes a core for one second."""
ANSWER_S_MAX = 1.0
POLL_S = 0.05

_log = logging.getLogger(__name__)


class EmbeddedRedisNotRunning(Fatal):
    """Nothing listens where the embedded Redis of this data directory would."""


class EmbeddedRedis:
    """
    Own the Redis of `data_dir`: `async with EmbeddedRedis(data_dir) as redis: connect(redis.address)`.

    Units: `memory_bytes_max` is Redis' own `maxmemory`; 0 is no bound. Past it writes fail, nothing is evicted.
    Raises: DataDirInUse, EmbeddedRedisUnusable, engine.runtime.process.ChildFailed.
    """

    def __init__(self, data_dir: Path, *, memory_bytes_max: int = 0, server: Path | None = None) -> None:
        self._data_dir = data_dir
        self._memory_bytes_max = memory_bytes_max
        self._candidates = [server] if server else candidates()
        self._stack = AsyncExitStack()

    @property
    def address(self) -> str:
        """Return where it listens, as `unix:///PATH`."""
        return _address(local_socket.path(self._data_dir))

    async def __aenter__(self) -> Self:
        """Start the server and wait until it has loaded its data."""
        async with AsyncExitStack() as stack:
            stack.enter_context(lock(self._data_dir))
            path = stack.enter_context(local_socket.reachable(self._data_dir))
            await _end_left_over(path)
            keeper = Keeper(partial(self._live, path, self._command(path)), _died)
            await stack.enter_async_context(kept([keeper]))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut the server down, its data written."""
        await self._stack.aclose()

    async def _live(self, path: Path, command: tuple[str, ...], up: asyncio.Event) -> str:
        log = self._data_dir / "logs" / "redis.log"
        async with Child("redis-server", command, log=log, stop_s_max=STOP_S_MAX) as child:
            await child.ready(lambda: _serves(path), within_s=READY_S_MAX)
            if up.is_set():
                _log.warning("embedded_redis_back")
            up.set()
            return told(await child.wait())

    def _command(self, path: Path) -> tuple[str, ...]:
        home = self._data_dir.resolve() / "redis"
        home.mkdir(mode=0o700, exist_ok=True)
        return (str(fit(home, self._candidates).path), *_options(home, path, self._memory_bytes_max))


def address(data_dir: Path) -> str:
    """
    Return where the running embedded Redis of `data_dir` listens, as `unix:///PATH`.

    Raises: EmbeddedRedisNotRunning.
    """
    path = local_socket.path(data_dir)
    if not local_socket.listens(path):
        raise EmbeddedRedisNotRunning(f"the embedded Redis of {data_dir} is not running; `tollway up` starts it")
    return _address(path)


def _died(became: str) -> None:
    _log.error("embedded_redis_ended", extra={"reason": became})


def _address(path: Path) -> str:
    return f"unix://{quote(os.fspath(path))}"


def _options(home: Path, path: Path, memory_bytes_max: int) -> tuple[str, ...]:
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "600",
        "dir": str(home),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
        "aof-use-rdb-preamble": "no",
        "auto-aof-rewrite-min-size": str(REWRITE_BYTES_MIN),
        "save": "",
        "maxmemory": str(memory_bytes_max),
        "maxmemory-policy": "noeviction",
        "databases": "1",
    }
    return tuple(word for name, value in settings.items() for word in (f"--{name}", value))


async def _serves(path: Path) -> bool:
    return await _ask(path, b"PING") == b"+PONG\r\n"


async def _end_left_over(path: Path) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_S_MAX):
            while local_socket.listens(path):
                with suppress(OSError):
                    await _ask(path, b"SHUTDOWN")
                await asyncio.sleep(POLL_S)
            return
    raise EmbeddedRedisUnusable(
        f"a redis-server left over from before does not end; end the one that listens on {path}"
    )


async def _ask(path: Path, command: bytes) -> bytes:
    """Return the first line of the answer; empty where the server hangs up."""
    async with asyncio.timeout(ANSWER_S_MAX):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(command + b"\r\n")
            return await reader.readline()
        finally:
            writer.close()
