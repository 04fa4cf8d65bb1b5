"""
A rolling deployment: gateways of commit af0df1f, run from the repository's history, beside those of now on one Redis.

Both count on the same counters and know each other's keys. The newer sweeps the older's reservations, reads its bill
and its log; the older leaves the newer's to the newer, tells what it cannot read, and loses nothing.
"""

import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from policies.quota import Ask, Granted, Limit, Repeated
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.membership.incarnation import proven_dead
from proxy.store.outbox.end import Settle, written
from tests import recorded_versions
from tests.bare_gateway import BareGateway, bare_gateway, dies, exchange, reserved
from tests.redis_server import redis_in

COMMIT = "af0df1f"
LINES = recorded_versions.expected(COMMIT)["limits"]
FEW, ALL = LINES["few"], LINES["all"]
SUBJECT = {"tenant": "acme", "user": "ada", "model": "demo"}
USED = {"prompt_tokens": 120, "cached_tokens": 32, "completion_tokens": 11}
ASK = Ask(prompt_tokens=100, choices=1, max_completion=900, min_completion=256, hold_us=5_000_000)


class Older:
    """A gateway of the older commit in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.id = ""

    async def answer(self) -> Any:
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            return json.loads(await self._process.stdout.readline())

    async def do(self, step: str, *args: Any, **named: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([step, args, named]).encode() + b"\n")
        return await self.answer()


@pytest.fixture(scope="session")
def older_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the older commit's sources."""
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "archive", COMMIT, "proxy", "engine", "policies"]
    try:
        archive = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"this checkout has no history with the commit {COMMIT}")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.fixture
def redis_url() -> Iterator[str]:
    """Run one Redis: that all that there are do the same is others' to test."""
    with tempfile.TemporaryDirectory(prefix="tw-") as folder, redis_in(Path(folder)) as url:
        yield url


@asynccontextmanager
async def older_gateway(tree: Path, url: str, data_dir: Path) -> AsyncIterator[Older]:
    script = recorded_versions.recorded(COMMIT) / "gateway.py"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(script), "serve", url, str(data_dir)),
        env=os.environ | {"PYTHONPATH": str(tree)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        limit=2**20,
    )
    older = Older(process)
    try:
        older.id = await older.answer()
        yield older
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(60):
            await process.wait()


@pytest.fixture
def another(older_tree: Path, redis_url: str) -> Callable[[Path], AbstractAsyncContextManager[Older]]:
    """Give what runs an older gateway on a folder."""
    return partial(older_gateway, older_tree, redis_url)


@pytest.fixture
async def older(another: Callable[[Path], AbstractAsyncContextManager[Older]], tmp_path: Path) -> AsyncIterator[Older]:
    async with another(tmp_path / "older") as gateway:
        yield gateway


@pytest.fixture
async def newer(older: Older, connection: RedisClient, tmp_path: Path) -> AsyncIterator[BareGateway]:
    async with bare_gateway(connection, tmp_path / "newer") as gateway:
        yield gateway


def limits(lines: list[Any]) -> tuple[Limit, ...]:
    return recorded_versions.limits(lines)


async def check_used(older: Older, newer: BareGateway, lines: list[Any], *, tokens: int, requests: int) -> None:
    """Both tell what is used of each window, and it is this."""
    told = await older.do("used", SUBJECT, lines), await newer.used(SUBJECT, limits(lines))
    for used in told:
        windows = [(unit, now) for (_, unit, _, per), now in zip(lines, used, strict=True) if per in ("day", "month")]
        assert windows == [(unit, tokens if unit == "tokens" else requests) for unit, _ in windows]


async def rows(older: Older, newer: BareGateway) -> list[tuple[str, str, int, int]]:
    """Return the bill as the newer reads it: kind, request, tokens. The older reads its own, and tells all others."""
    found = await newer.rows()
    told = await older.do("rows")
    theirs = [(kind, recorded_versions.record_of(row)) for kind, row in told if isinstance(row, dict)]
    assert len(told) == len(found)
    assert all(row in found for row in theirs)
    return [(kind, row.request_id, row.prompt_tokens, row.completion_tokens) for kind, row in found]


@pytest.mark.parametrize("lines", [FEW, ALL], ids=["few limits", "all limits"])
async def test_both_count_on_the_same_counters(older: Older, newer: BareGateway, lines: list[Any]) -> None:
    for turn in range(3):
        await older.do("reserve", {"request_id": f"older-{turn}"}, lines)
        record = exchange(newer, f"newer-{turn}")
        assert isinstance(await newer.store.reserve(record, limits(lines), ASK), Granted)
        await check_used(older, newer, lines, tokens=2_000 + 262 * turn, requests=2 + 2 * turn)
        assert await older.do("settle", {"request_id": f"older-{turn}", **USED}, lines)
        assert (await newer.store.settle(record, limits(lines))).ours
        await check_used(older, newer, lines, tokens=262 + 262 * turn, requests=2 + 2 * turn)
    assert len(await rows(older, newer)) == 6


async def test_the_older_leaves_to_the_newer_what_the_newer_left(
    older: Older, newer: BareGateway, tmp_path: Path
) -> None:
    record = await reserved(newer, "of-the-newer", limits(ALL))
    await dies(newer)
    assert await older.do("sweep") == 0
    await check_used(older, newer, ALL, tokens=990, requests=1)
    async with bare_gateway(newer.connection, tmp_path / "another") as another:
        assert await another.sweeper.sweep() == 1
    await check_used(older, newer, ALL, tokens=130, requests=1)
    first = await newer.store.settle(record, limits(ALL))
    assert first.correction is not None
    assert await newer.store.settle(record, limits(ALL)) == first
    await check_used(older, newer, ALL, tokens=131, requests=1)
    assert await rows(older, newer) == [("FINAL", "of-the-newer", 90, 40), ("CORRECTION", "of-the-newer", 30, -29)]


async def test_the_newer_sweeps_what_the_older_left_and_what_that_knows_better_waits_for_a_newer_one(
    older: Older, newer: BareGateway
) -> None:
    of_the_older = {"request_id": "of-the-older"}
    await older.do("reserve", of_the_older, ALL)
    await older.do("trim", of_the_older, ALL, 10)
    await older.do("progress", {**of_the_older, "prompt_tokens": 90, "completion_tokens": 40})
    await older.do("dies")
    await proven_dead(newer.connection, [older.id])
    assert await newer.sweeper.sweep() == 1
    await check_used(older, newer, ALL, tokens=130, requests=1)
    for _ in range(2):
        assert await older.do("settle", {**of_the_older, **USED}, ALL) is False
    await check_used(older, newer, ALL, tokens=130, requests=1)
    assert await rows(older, newer) == [("FINAL", "of-the-older", 90, 40)]
    settlement = await newer.store.settle(exchange(newer, "of-the-older"), limits(ALL))
    assert settlement.correction is not None
    await check_used(older, newer, ALL, tokens=131, requests=1)
    assert await rows(older, newer) == [("FINAL", "of-the-older", 90, 40), ("CORRECTION", "of-the-older", 30, -29)]


async def test_the_older_settles_what_the_newer_suspects(older: Older, newer: BareGateway) -> None:
    of_the_older = {"request_id": "of-the-older"}
    await older.do("reserve", of_the_older, FEW)
    await older.do("progress", {**of_the_older, "prompt_tokens": 90, "completion_tokens": 40})
    await older.do("dies")
    assert await newer.sweeper.sweep() == 0
    await check_used(older, newer, FEW, tokens=1_000, requests=1)
    assert await older.do("settle", {**of_the_older, **USED}, FEW) is True
    await check_used(older, newer, FEW, tokens=131, requests=1)
    assert [each async for each in newer.store.suspects("acme")] == [], "what the older leaves in the index is no more"
    member = keys.open_member(older.id, "of-the-older")
    await newer.connection.call("ZADD", keys.suspect_index("acme"), 0, member)
    assert await newer.sweeper.sweep() == 0
    assert await newer.connection.call("EXISTS", keys.suspect_index("acme")) == 0


async def test_the_newer_returns_what_the_older_swept(older: Older, newer: BareGateway) -> None:
    await older.do("reserve", {"request_id": "of-the-older"}, FEW)
    await older.do("dies")
    await proven_dead(newer.connection, [older.id])
    await newer.incarnation.beat()
    assert await newer.sweeper.sweep() == 1
    await newer.store.release(exchange(newer, "of-the-older"), limits(FEW))
    await check_used(older, newer, FEW, tokens=0, requests=0)


async def test_a_clients_own_key_is_known_to_both(older: Older, newer: BareGateway) -> None:
    await older.do("reserve", {"request_id": "first"}, FEW, once="a key")
    assert await newer.store.reserve(exchange(newer, "second"), limits(FEW), ASK, once="a key") == Repeated("first")
    await older.do("release", {"request_id": "first"}, FEW)
    assert isinstance(await newer.store.reserve(exchange(newer, "third"), limits(FEW), ASK, once="a key"), Granted)
    assert "Repeated(request_id='third')" in await older.do("reserve", {"request_id": "fourth"}, FEW, once="a key")


async def test_each_takes_over_the_others_log(
    older: Older,
    newer: BareGateway,
    another: Callable[[Path], AbstractAsyncContextManager[Older]],
    tmp_path: Path,
) -> None:
    """As when an upgrade is done, and undone, on one disk."""
    async with another(tmp_path / "shared") as killed:
        await killed.do("settle", {"request_id": "of-the-older", **USED}, FEW, away=True)
    async with bare_gateway(newer.connection, tmp_path / "shared") as upgraded:
        async with upgraded.replaying():
            assert upgraded.billed == ["of-the-older"]
        record = exchange(upgraded, "of-the-newer")
        upgraded.journal.owe(await upgraded.journal.append(written(Settle(record, limits(FEW), held=0))))
    async with another(tmp_path / "shared"):
        assert {request for _, request, _, _ in await rows(older, newer)} == {"of-the-older"}
    async with bare_gateway(newer.connection, tmp_path / "shared") as again, again.replaying():
        assert again.billed == ["of-the-newer"]
