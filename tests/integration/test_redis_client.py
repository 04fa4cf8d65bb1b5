"""The connection's promises: a deadline, one fault, cancellations that arrive, and no unsafe Redis."""

import asyncio
from pathlib import Path

import pytest
from redis import Redis

from proxy.errors import LedgerUnavailable
from proxy.redis.client import RedisClient, UnsafeRedis
from proxy.store.scripts import RESTORE


async def test_a_script_runs_though_redis_forgot_it(redis_url: str, connection: RedisClient) -> None:
    with Redis.from_url(redis_url) as client:
        client.script_flush()
    assert int(await connection.run(RESTORE, ["revoked"], [0])) > 0
    assert int(await connection.run(RESTORE, ["revoked"], [0])) > 0


async def test_nobody_listening_is_one_fault(tmp_path: Path) -> None:
    async with RedisClient(f"unix://{tmp_path}/none.sock", deadline_s=5) as connection:
        with pytest.raises(LedgerUnavailable):
            await connection.call("PING")


async def test_a_command_that_redis_refuses_is_the_same_fault(connection: RedisClient) -> None:
    await connection.call("SET", "text", "x")
    with pytest.raises(LedgerUnavailable) as caught:
        await connection.call("ZCARD", "text")
    assert "WRONGTYPE" in str(caught.value.__cause__)


async def test_a_silent_redis_is_given_up_at_the_deadline(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        client.execute_command("CLIENT", "PAUSE", 2_500, "ALL")
        try:
            async with RedisClient(redis_url, deadline_s=0.6) as connection:
                async with asyncio.timeout(1.8):
                    with pytest.raises(LedgerUnavailable):
                        await connection.call("SET", "a", "b")
        finally:
            client.execute_command("CLIENT", "UNPAUSE")


@pytest.mark.parametrize("steps", range(12))
async def test_a_cancelled_call_is_cancelled(connection: RedisClient, steps: int) -> None:
    async def call_twice() -> None:
        await connection.call("PING")
        await asyncio.Event().wait()

    await connection.call("PING")
    task = asyncio.create_task(call_twice())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    assert done
    assert task.cancelled()
    assert await connection.call("ECHO", str(steps)) == str(steps)


async def test_a_thousand_calls_share_a_socket(redis_url: str) -> None:
    with Redis.from_url(redis_url) as other:
        before = {each["id"] for each in other.client_list()}  # of tests before this one some may still be open
        async with RedisClient(redis_url, deadline_s=20) as connection:
            answers = await asyncio.gather(*(connection.call("INCR", "n") for _ in range(1000)))
            sockets = {each["id"] for each in other.client_list()} - before
    assert sorted(answers) == list(range(1, 1001))
    assert len(sockets) == 1


async def test_every_call_is_observed_by_its_name(redis_url: str) -> None:
    seen: list[tuple[str, float]] = []
    async with RedisClient(redis_url, observe=lambda op, seconds: seen.append((op, seconds))) as connection:
        await connection.call("PING")
        await connection.run(RESTORE, ["revoked"], [0])
    assert [op for op, _ in seen] == ["ping", "restore"]
    assert all(seconds > 0 for _, seconds in seen)


async def test_a_redis_that_loses_what_is_billed_is_refused(connection: RedisClient) -> None:
    with pytest.raises(UnsafeRedis, match="append-only"):
        await connection.check()
    await connection.check(allow_unsafe=True)
    await connection.call("CONFIG", "SET", "appendonly", "yes")
    try:
        await connection.check()
        await connection.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        with pytest.raises(UnsafeRedis, match="noeviction"):
            await connection.check()
    finally:
        await connection.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await connection.call("CONFIG", "SET", "appendonly", "no")


async def test_a_redis_of_32_bits_is_refused(tmp_path: Path) -> None:
    info, left = b"role:master\r\narch_bits:32\r\n", asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1_000):
                writer.write(b"$%d\r\n%b\r\n" % (len(info), info))
        finally:
            writer.close()
        left.set()

    async with await asyncio.start_unix_server(answer, tmp_path / "redis.sock"):
        async with RedisClient(f"unix://{tmp_path}/redis.sock", deadline_s=20) as connection:
            with pytest.raises(UnsafeRedis, match="32-bit"):
                await connection.check(allow_unsafe=True)
        await left.wait()
