"""
Real redis-servers for every test that needs one.

A server runs once a session (in each of its worker processes), on a unix socket in a short temporary directory, without
persistence; a test gets it empty. Which of those at hand, `tests/redis_server.py` says.
"""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
from redis import Redis

from proxy.redis.client import RedisClient
from tests.redis_server import EACH_SERVER, redis_in

# A test that is slow on a busy machine is no failure; one that hangs is ended by its time limit.
hypothesis.settings.register_profile("tollway", deadline=None, print_blob=True)
hypothesis.settings.load_profile("tollway")

DEADLINE_S = 20.0
"""For the calls of tests: on a busy machine a slow answer is no failure."""


@pytest.fixture(scope="session", params=EACH_SERVER)
def redis_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run one redis-server for the session and give its `unix://` URL."""
    with tempfile.TemporaryDirectory(prefix="tw-") as folder, redis_in(Path(folder), server=request.param) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """Give the URL of an empty Redis."""
    with Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[RedisClient]:
    """Give a connection to an empty Redis."""
    async with RedisClient(redis_url, deadline_s=DEADLINE_S) as opened:
        yield opened
