"""A gateway that runs is known to live; one that left or went silent is not."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.errors import LedgerEmptied, LedgerUnavailable
from proxy.redis.client import RedisClient
from proxy.redis.embedded.server import EmbeddedRedis
from proxy.store import keys
from proxy.store.membership import generation
from proxy.store.membership.incarnation import DEAD_AFTER_US, Incarnation, living, tenants


async def test_it_lives_from_its_first_moment_to_its_last(connection: RedisClient) -> None:
    async with Incarnation(connection) as one, Incarnation(connection) as two:
        assert (await living(connection))[1] == {one.id, two.id}
    assert (await living(connection))[1] == frozenset()


async def test_it_goes_on_beating_and_comes_back_after_a_pause(connection: RedisClient) -> None:
    async with Incarnation(connection, beat_s=0.01) as one, asyncio.timeout(10):
        await connection.call("ZADD", keys.INCARNATIONS, 1, one.id)
        while one.id not in (await living(connection))[1]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_silence_for_ten_seconds_is_death(connection: RedisClient) -> None:
    async with Incarnation(connection) as one:
        await connection.call("ZINCRBY", keys.INCARNATIONS, -DEAD_AFTER_US - 1, one.id)
        assert (await living(connection))[1] == frozenset()


async def test_a_redis_that_lost_its_memory_learns_the_tenants_again(connection: RedisClient) -> None:
    async with Incarnation(connection) as one:
        await one.serve("acme")
        await connection.call("FLUSHALL")
        await one.beat()
        await one.serve("acme")
        assert await tenants(connection) == ["acme"]


async def test_another_start_of_redis_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    async with (
        EmbeddedRedis(tmp_path) as redis,
        RedisClient(redis.address, deadline_s=20) as connection,
        Incarnation(connection) as one,
    ):
        one.when_restarted(lambda: told.append("restarted"))
        await one.beat()
        assert told == []
        with suppress(LedgerUnavailable):
            await connection.call("SHUTDOWN", "NOSAVE")
        await back(connection)
        await one.beat()
        await one.beat()
    assert told == ["restarted"]


async def test_data_that_is_lost_while_redis_runs_on_is_told(
    connection: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "ON_DISK_AFTER_S", 0.0)
    told: list[str] = []
    async with Incarnation(connection) as one:
        one.when_restarted(lambda: told.append("doubted"))
        await one.serve("acme")
        await one.beat()
        assert told == []
        await connection.call("FLUSHALL")
        await generation.accept(connection, one.generation.value)
        await one.beat()
        await one.beat()
        assert told == ["doubted"], "accepted before anybody missed it"
        await connection.call("FLUSHALL")
        await one.beat()
        await generation.accept(connection, one.generation.value)
        await one.beat()
        assert told[1:2] == ["doubted"]
        before = len(told)
        await one.serve_again("acme")
        await connection.call("DEL", keys.generation("acme"))
        with pytest.raises(LedgerEmptied):
            await one.serve_again("acme")
        await one.beat()
        assert len(told) == before + 1, "of one tenant"


async def back(connection: RedisClient) -> None:
    """Wait until Redis answers again."""
    async with asyncio.timeout(30):
        while True:
            with suppress(LedgerUnavailable):
                await connection.call("PING")
                return
            await asyncio.sleep(0.05)


async def test_a_failed_beat_is_not_the_end(connection: RedisClient) -> None:
    async with Incarnation(connection, beat_s=0.01) as one, asyncio.timeout(10):
        await connection.call("SET", keys.INCARNATIONS, "in the way")
        await asyncio.sleep(0.05)
        await connection.call("DEL", keys.INCARNATIONS)
        while not await connection.call("ZSCORE", keys.INCARNATIONS, one.id):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
