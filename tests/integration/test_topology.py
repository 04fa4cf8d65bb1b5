"""`proxy.redis.topology` with real sentinels: the primary is found, followed, and left when it is one no longer."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.errors import LedgerUnavailable
from proxy.redis.client import RedisClient, UnsafeRedis
from proxy.redis.pipeline import Pipeline
from proxy.redis.socket import ServerSilent, SocketLost
from proxy.store.scripts import BEAT, CLAIM
from tests.redis_fleets import SERVICE, Watched, until, watched
from tests.redis_server import EACH_SERVER

DEADLINE_S = 5.0


@pytest.fixture(params=EACH_SERVER)
def servers(request: pytest.FixtureRequest) -> Iterator[Watched]:
    """Run a primary with its replica and sentinels for one test."""
    with tempfile.TemporaryDirectory(prefix="tw-") as folder, watched(Path(folder), request.param) as running:
        yield running


@pytest.fixture
async def pipeline(servers: Watched) -> AsyncIterator[Pipeline]:
    async with Pipeline(servers.url, deadline_s=DEADLINE_S) as opened:
        yield opened


async def _written(pipeline: Pipeline, value: str) -> None:
    """Write a value as soon as somebody takes it."""
    async with asyncio.timeout(30):
        while True:
            try:
                assert await pipeline.ask("SET", "name", value) == "OK"
            except (SocketLost, ServerSilent):
                await asyncio.sleep(0.05)
            else:
                return


async def test_the_primary_is_found_and_followed(servers: Watched, pipeline: Pipeline) -> None:
    await _written(pipeline, "before")
    assert servers.primary.ask("GET", "name") == "before"
    servers.primary.kill()
    await _written(pipeline, "after")
    assert servers.replica.ask("GET", "name") == "after"


@pytest.mark.parametrize("script", [False, True])
async def test_a_primary_that_became_a_replica_is_left_within_the_call(servers: Watched, *, script: bool) -> None:
    async with RedisClient(servers.url, deadline_s=DEADLINE_S) as connection:
        await connection.run(BEAT, ["lives"], ["before", 10_000_000])
        servers.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
        await asyncio.to_thread(until, servers.failed_over)
        servers.primary.ask("REPLICAOF", "127.0.0.1", servers.replica.port)
        if script:
            await connection.run(BEAT, ["lives"], ["after", 10_000_000])
        else:
            await connection.call("ZADD", "lives", 1, "after")
    assert "after" in servers.replica.ask("ZRANGE", "lives", 0, -1)


async def test_a_primary_that_is_replaced_unseen_is_left_by_the_next_survey(
    servers: Watched, pipeline: Pipeline
) -> None:
    await _written(pipeline, "before")
    (before,) = await pipeline.ask_each("INFO", "server")
    with servers.primary.frozen():
        await asyncio.to_thread(until, servers.failed_over)
        (after,) = await pipeline.ask_each("INFO", "server")
    assert (before.port, after.port) == (servers.primary.port, servers.replica.port)


async def test_sentinels_may_be_away(servers: Watched, pipeline: Pipeline) -> None:
    servers.sentinels[0].kill()
    with servers.sentinels[1].frozen():
        assert await pipeline.ask("PING") == "PONG"
    for sentinel in servers.sentinels[1:]:
        sentinel.kill()
    assert await pipeline.ask("PING") == "PONG"
    assert len(await pipeline.ask_each("PING")) == 1


async def test_a_service_that_nobody_watches_is_said(servers: Watched) -> None:
    async with Pipeline(servers.url.replace(SERVICE, "other"), deadline_s=DEADLINE_S) as pipeline:
        with pytest.raises(SocketLost, match="no sentinel names the primary of other"):
            await pipeline.ask("PING")


async def test_scripts_and_servers_follow(servers: Watched) -> None:
    async with RedisClient(servers.url, deadline_s=DEADLINE_S) as connection:
        await connection.check()
        await connection.run(CLAIM, ["guard"], ["who", 9_000])
        before = await connection.servers()
        servers.primary.kill()
        await asyncio.to_thread(until, servers.failed_over)
        await connection.run(CLAIM, ["guard"], ["who", 9_000])
        assert not before & await connection.servers()


async def test_a_replica_alone_is_refused(servers: Watched) -> None:
    async with RedisClient(f"redis://127.0.0.1:{servers.replica.port}", deadline_s=DEADLINE_S) as connection:
        with pytest.raises(UnsafeRedis, match="replica"):
            await connection.check(allow_unsafe=True)
        with pytest.raises(LedgerUnavailable):
            await connection.call("SET", "name", "value")
