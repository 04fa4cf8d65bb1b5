"""What keeps a gateway from serving is told once, in words: a Redis that is away or refuses, a disk that is full."""

import asyncio
import json
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.asks import CHAT, chat
from tests.e2e.gateway import Running, gateway
from tests.redis_server import redis_in

AWAY_S = 6.0
KNOWN_S_MAX = 15.0


@contextmanager
def kept_in(folder: Path) -> Iterator[str]:
    """Run a Redis on the same data each time."""
    folder.mkdir(exist_ok=True)
    with redis_in(folder, "--appendonly", "yes") as url:
        yield url


def said(folder: Path) -> list[dict[str, Any]]:
    """Return what the gateway logged, but for exchanges and their corrections."""
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return [line for line in lines if line["event"] not in ("exchange", "correction")]


async def ask(running: Running, tokens: int = 5) -> httpx.Response:
    async with running.client(running.bearer()) as client:
        return await client.post(CHAT, json=chat(tokens, stream=True))


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + KNOWN_S_MAX
    while not await what():
        assert time.monotonic() < deadline, f"not within {KNOWN_S_MAX} s"
        await asyncio.sleep(0.1)


async def readiness(running: Running) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(verify=False, timeout=30) as client:
        answer = await client.get(f"{running.url}/health/ready")
    return answer.status_code, answer.json()


async def until_ready(running: Running, status: int) -> dict[str, Any]:
    """Wait until the gateway is ready, or is not; return what it says."""
    told: dict[str, Any] = {}

    async def is_so() -> bool:
        nonlocal told
        answered, told = await readiness(running)
        return answered == status

    await until(is_so)
    return told


async def test_an_outage_of_redis_is_two_lines_whatever_fails_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    with kept_in(folder) as url:
        running_in = gateway(tmp_path, TOLLWAY__REDIS__URL=url)
        running = running_in.__enter__()
        begun = [asyncio.create_task(ask(running, 2_000)) for _ in range(5)]
        await running.eventually("tollway_inflight_requests", 5, within_s=KNOWN_S_MAX)
        before = len(said(tmp_path))
    try:
        ends = time.monotonic() + AWAY_S
        while time.monotonic() < ends:
            assert (await ask(running)).status_code == 503
            await asyncio.sleep(0.05)
        assert {answer.status_code for answer in await asyncio.gather(*begun)} == {200}
        told = (await readiness(running))[1]
        assert (told["redis"], told["reason"]) == (False, "Redis does not answer")
        with kept_in(folder):
            await until_ready(running, 200)

            async def told_back() -> bool:
                return any(line["event"] == "redis_back" for line in said(tmp_path))

            await until(told_back)
            await running.eventually("tollway_ledger_lag_records", 0, within_s=KNOWN_S_MAX)
            lines = said(tmp_path)[before:]
            [away] = [line for line in lines if line["event"] == "redis_away"]
            [back] = [line for line in lines if line["event"] == "redis_back"]
            assert away["address"] == back["address"] == str(folder / "redis.sock")
            assert "Errno" in away["reason"] or "connection" in away["reason"]
            assert AWAY_S - 2 < back["seconds"] < AWAY_S + KNOWN_S_MAX
            assert back["calls"] > 20
            assert len(lines) <= 4, [line["event"] for line in lines]
            assert sum(len(json.dumps(line)) for line in lines) < 2_000
            assert running.metrics("tollway_redis_failures_total", reason="no answer") >= back["calls"]
            [row] = running.usage("user")
            assert row["requests"] == 5
    finally:
        running_in.__exit__(None, None, None)


REFUSALS = {
    "oom": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "readonly": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    "noperm": (("ACL", "SETUSER", "default", "-@scripting"), ("ACL", "SETUSER", "default", "+@all")),
}


async def test_what_redis_refuses_is_told_in_log_metric_and_readiness(tmp_path: Path) -> None:
    with kept_in(tmp_path / "redis") as url, gateway(tmp_path, TOLLWAY__REDIS__URL=url) as running:
        root: Any = Redis.from_url(url)
        root.execute_command("ACL", "SETUSER", "root", "on", "nopass", "+@all", "~*", "&*")
        root = Redis.from_url(url, username="root", password="any")
        for code, (refuse, allow) in REFUSALS.items():
            await until_ready(running, 200)
            root.execute_command(*refuse)
            told = await until_ready(running, 503)
            assert (told["redis"], f"({code.upper()})" in told["reason"]) == (False, True), told
            answer = await ask(running)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
            assert code.upper() not in answer.text, "clients learn the code of the API alone"
            assert running.metrics("tollway_redis_failures_total", reason=code) > 0
            root.execute_command(*allow)

            async def told_back(count: int = list(REFUSALS).index(code) + 1) -> bool:
                return [line["event"] for line in said(tmp_path)].count("redis_back") == count

            await until(told_back)
        reasons = [line["reason"] for line in said(tmp_path) if line["event"] == "redis_away"]
        assert [code.upper() in reason for code, reason in zip(REFUSALS, reasons, strict=True)] == [True] * 3
        assert (await ask(running)).status_code == 200


def test_a_command_tells_its_operator_what_redis_said(tmp_path: Path) -> None:
    with kept_in(tmp_path / "redis") as url, gateway(tmp_path, TOLLWAY__REDIS__URL=url) as running:
        root: Any = Redis.from_url(url)
        root.execute_command("ACL", "SETUSER", "default", "-hgetall")
        with pytest.raises(subprocess.CalledProcessError) as failed:
            running.tollway("revoke", "list")
        assert "Redis refuses (NOPERM" in failed.value.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that is a disk of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tollway", str(folder)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as filling, suppress(OSError):
        while True:
            filling.write(bytes(2**16))


async def test_a_full_disk_is_told_before_a_request_meets_it(tmp_path: Path, small_disk: Path) -> None:
    with kept_in(tmp_path / "redis") as url, gateway(tmp_path, TOLLWAY__REDIS__URL=url) as running:
        await until_ready(running, 200)
        fill(small_disk / "other")
        told = await until_ready(running, 503)
        assert (told["redis"], told["journal"]) == (True, False)
        assert "No space left on device" in told["reason"]
        assert (await ask(running)).status_code == 503
        (small_disk / "other").unlink()
        await until_ready(running, 200)
        assert (await ask(running)).status_code == 200
        [failed] = [line for line in said(tmp_path) if line["event"] == "journal_failed"]
        assert "No space left on device" in failed["reason"]
