"""The shared socket to a real Redis: order, deadlines, ends, and what it costs others when one call goes wrong."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from proxy.redis import socket as sockets
from proxy.redis.address import Access
from proxy.redis.pipeline import Pipeline
from proxy.redis.socket import ErrorReply, ServerSilent, SocketLost

DEADLINE_S = 20.0


@pytest.fixture
async def pipeline(redis_url: str) -> AsyncIterator[Pipeline]:
    async with Pipeline(redis_url, deadline_s=DEADLINE_S) as opened:
        yield opened


async def test_each_caller_gets_its_own_answer(pipeline: Pipeline) -> None:
    answers = await asyncio.gather(*(pipeline.ask("ECHO", f"{number} é\r\n$3") for number in range(5_000)))
    assert answers == [f"{number} é\r\n$3" for number in range(5_000)]


async def test_calls_of_one_moment_share_one_socket(redis_url: str, pipeline: Pipeline) -> None:
    with Redis.from_url(redis_url) as other:
        before = {each["id"] for each in other.client_list()}  # of tests before this one some may still be open
        await asyncio.gather(*(pipeline.ask("INCR", "n") for _ in range(100)))
        sockets = {each["id"] for each in other.client_list()} - before
    assert len(sockets) == 1


async def test_answers_of_every_kind(pipeline: Pipeline) -> None:
    await pipeline.ask("SET", "number", 7)
    assert await pipeline.ask("GET", "number") == "7"
    assert await pipeline.ask("GET", "none") is None
    assert await pipeline.ask("STRLEN", "number") == 1
    assert await pipeline.ask("MGET", "number", "none") == ["7", None]
    assert await pipeline.ask("SET", "long", "x" * 3_000_000) == "OK"
    assert len(await pipeline.ask("GET", "long")) == 3_000_000


async def test_what_redis_refuses_is_that_calls_alone(pipeline: Pipeline) -> None:
    calls = (pipeline.ask("ECHO", "a"), pipeline.ask("NO-SUCH"), pipeline.ask("ECHO", "b"))
    answers = list(await asyncio.gather(*calls, return_exceptions=True))
    assert answers[::2] == ["a", "b"]
    assert isinstance(answers[1], ErrorReply)


async def test_a_cancelled_call_shifts_nobodys_answer(pipeline: Pipeline) -> None:
    await pipeline.ask("PING")
    tasks: list[asyncio.Future[str]] = [pipeline.ask("ECHO", str(number)) for number in range(100)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    await asyncio.wait(tasks)
    assert [task.result() for task in tasks if not task.cancelled()] == [str(n) for n in range(100) if n % 3]


@contextmanager
def paused(redis_url: str, ms: int) -> Iterator[None]:
    """Let Redis answer nobody for a while."""
    with Redis.from_url(redis_url) as client:
        client.execute_command("CLIENT", "PAUSE", ms, "ALL")
        try:
            yield
        finally:
            client.execute_command("CLIENT", "UNPAUSE")


async def test_a_silent_redis_is_given_up_at_the_deadline_and_found_again(redis_url: str) -> None:
    async with Pipeline(redis_url, deadline_s=1) as pipeline:
        await pipeline.ask("PING")
        with paused(redis_url, 4_000):
            faults = await asyncio.gather(*(pipeline.ask("INCR", "n") for _ in range(9)), return_exceptions=True)
            assert all(isinstance(fault, ServerSilent) for fault in faults)
            await asyncio.sleep(0)
            with pytest.raises((ServerSilent, SocketLost)):
                await pipeline.ask("INCR", "n")
        async with asyncio.timeout(DEADLINE_S):
            await until(lambda: _answered(pipeline))


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():  # noqa: ASYNC110 (what is waited for happens in another process)
        await asyncio.sleep(0.01)


async def _answered(pipeline: Pipeline) -> bool:
    try:
        return bool(await pipeline.ask("PING") == "PONG")
    except (ServerSilent, SocketLost):
        return False


async def test_a_call_whose_socket_ended_is_sent_once_more(redis_url: str, pipeline: Pipeline) -> None:
    number = await pipeline.ask("CLIENT", "ID")
    with Redis.from_url(redis_url) as client:

        async def waits() -> bool:
            return any(each["cmd"] == "blpop" and each["id"] not in killed for each in client.client_list())

        killed: set[str] = set()
        waiting = pipeline.ask("BLPOP", "later", 0)
        await until(waits)
        killed.add(str(number))
        client.execute_command("CLIENT", "KILL", "ID", number)
        await until(waits)
        client.rpush("later", "here")
    assert await waiting == ["later", "here"]


async def test_a_redis_that_ends_every_socket_costs_no_more_than_the_deadline(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        await reader.read(100)
        writer.close()
        await writer.wait_closed()
        met.release()

    met = asyncio.Semaphore(0)
    began = asyncio.get_running_loop().time()
    async with (
        await asyncio.start_unix_server(hang_up, tmp_path / "s"),
        Pipeline(f"unix://{tmp_path}/s", access=Access(password="password"), deadline_s=0.3) as pipeline,
    ):
        with pytest.raises((ServerSilent, SocketLost)) as caught:
            await pipeline.ask("PING")
        for _ in range(2):
            await met.acquire()
        assert isinstance(caught.value, ServerSilent), "the second try had only what was left of the deadline"
    assert asyncio.get_running_loop().time() - began >= 0.3


async def test_nobody_listening_is_told_to_all_who_wait(tmp_path: Path) -> None:
    async with Pipeline(f"unix://{tmp_path}/none.sock", deadline_s=DEADLINE_S) as pipeline:
        for fault in await asyncio.gather(*(pipeline.ask("PING") for _ in range(5)), return_exceptions=True):
            assert isinstance(fault, SocketLost)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$2\r\n\xff\xfe\r\n"])
async def test_who_does_not_speak_redis_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture, said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        while await reader.read(100):
            pass
        writer.close()
        await writer.wait_closed()
        met.release()

    met = asyncio.Semaphore(0)
    async with (
        await asyncio.start_unix_server(talk, tmp_path / "http.sock"),
        Pipeline(f"unix://{tmp_path}/http.sock", deadline_s=DEADLINE_S) as pipeline,
    ):
        with pytest.raises(SocketLost):
            await pipeline.ask("PING")
        for _ in range(2):
            await met.acquire()
    assert not caplog.records


async def test_only_so_many_calls_wait(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    await pipeline.ask("PING")
    monkeypatch.setattr(sockets, "WAITING_MAX", 10)
    results = await asyncio.gather(*(pipeline.ask("PING") for _ in range(12)), return_exceptions=True)
    assert results[:10] == ["PONG"] * 10
    assert all(isinstance(fault, ServerSilent) for fault in results[10:])


async def test_leaving_ends_what_still_waits(redis_url: str) -> None:
    async with Pipeline(redis_url, deadline_s=DEADLINE_S) as pipeline:
        await pipeline.ask("PING")
        waiting = pipeline.ask("BLPOP", "never", 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    with pytest.raises(SocketLost):
        await waiting


@contextmanager
def served(folder: Path, *options: str) -> Iterator[None]:
    """Run a redis-server of our own for the block."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("needs a redis-server on the PATH")
    socket = folder / "s"
    process = subprocess.Popen(
        [server, "--save", "", "--unixsocket", socket, *options], cwd=folder, stdout=subprocess.DEVNULL
    )
    try:
        while process.poll() is None:
            try:
                with Redis(unix_socket_path=str(socket)) as client:
                    client.ping()
            except RedisError as error:
                if "AUTH" in str(error) or "NOAUTH" in str(error):
                    break
            else:
                break
        yield
    finally:
        process.kill()
        process.wait()


async def test_a_password_a_name_and_a_database_are_told(tmp_path: Path) -> None:
    with served(tmp_path, "--port", "0", "--requirepass", "s3cret"):
        address = f"{tmp_path}/s"
        async with Pipeline(f"unix://{address}?db=3", access=Access("s3cret"), deadline_s=DEADLINE_S) as pipeline:
            assert "db=3" in await pipeline.ask("CLIENT", "INFO")
        async with Pipeline(f"unix://{address}", access=Access("s3cret"), deadline_s=DEADLINE_S) as pipeline:
            assert await pipeline.ask("PING") == "PONG"
        async with Pipeline(f"unix://{address}", access=Access("wrong"), deadline_s=DEADLINE_S) as pipeline:
            with pytest.raises(ErrorReply):
                await pipeline.ask("PING")
