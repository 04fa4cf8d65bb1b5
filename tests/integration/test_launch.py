"""Replicas of the built-in simulator, launched for real: ready together, kept running, ended together."""

import asyncio
import os
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.fleet.command import LaunchSpec
from engine.fleet.launch import PATIENCE_S, READY_S_MAX, Launched, healthy, launch
from engine.runtime.process import ChildFailed
from tests.ports import claimed_port


def spec(name: str, *args: str, port: int | None = None) -> LaunchSpec:
    return LaunchSpec(
        name=name, engine="sim", model="demo", sequences=7, context_tokens=512, port=port, args=("--seed", "1", *args)
    )


def port_of(replica: Launched) -> int:
    return int(replica.url.rpartition(":")[2])


async def models(replica: Launched) -> dict[str, Any]:
    def get() -> bytes:
        with urllib.request.urlopen(f"{replica.url}/v1/models", timeout=5) as answer:
            body: bytes = answer.read()
            return body

    listed: dict[str, Any] = orjson.loads(await asyncio.to_thread(get))["data"][0]
    return listed


def pid(replica: Launched) -> int:
    assert replica.child is not None
    return replica.child.pid


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Reports(list[tuple[str, str]]):
    """What became of the replicas; `until` waits for a word about one."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def __call__(self, name: str, what: str) -> None:
        self.append((name, what))
        self._changed.set()

    async def until(self, name: str, word: str, *, times: int) -> None:
        async with asyncio.timeout(20):
            while sum(who == name and word in what for who, what in self) < times:
                self._changed.clear()
                await self._changed.wait()


async def test_replicas_are_ready_in_the_block_and_gone_after_it(tmp_path: Path) -> None:
    reports = Reports()
    async with launch([spec("one"), spec("two")], logs=tmp_path, report=reports) as launched:
        assert [replica.name for replica in launched] == ["one", "two"]
        assert len({replica.url for replica in launched}) == 2
        for replica in launched:
            model = await models(replica)
            assert (model["id"], model["max_model_len"]) == ("demo", 512)
        pids = [pid(replica) for replica in launched]
    assert not any(map(runs, pids))
    assert (tmp_path / "one.log").exists()
    assert sorted(name for name, what in reports if "is ready after" in what) == ["one", "two"]


async def test_a_replica_takes_the_port_it_is_given(tmp_path: Path) -> None:
    with claimed_port() as given:
        async with launch([spec("one", port=given)], logs=tmp_path, report=Reports()) as (one,):
            assert one.url == f"http://127.0.0.1:{given}"
            assert await healthy(given)


async def test_nothing_to_launch_is_no_fault(tmp_path: Path) -> None:
    async with launch([], logs=tmp_path, report=Reports()) as launched:
        assert tuple(launched) == ()


async def test_one_that_cannot_start_fails_the_launch_at_once_and_ends_the_others(tmp_path: Path) -> None:
    said = r"(?s)two exited with status 2 before it was ready.*No such option.*--wings"
    with claimed_port() as free:
        began = time.monotonic()
        with pytest.raises(ChildFailed, match=said):
            async with launch([spec("one", port=free), spec("two", "--wings")], logs=tmp_path, report=Reports()):
                pass
        assert time.monotonic() - began < 10
        with pytest.raises(ConnectionRefusedError):
            await healthy(free)


async def test_one_that_may_take_long_says_that_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = Reports()
    monkeypatch.setitem(READY_S_MAX, "sim", PATIENCE_S + 1)
    async with launch([spec("one")], logs=tmp_path, report=reports):
        assert ("one", f"is starting, for up to 31 s; see {tmp_path / 'one.log'}") in reports


async def test_one_that_dies_is_reported_and_comes_back_at_its_address(tmp_path: Path) -> None:
    reports = Reports()
    async with launch([spec("one"), spec("two")], logs=tmp_path, report=reports) as (one, two):
        first, url, other = pid(one), one.url, pid(two)
        os.kill(first, signal.SIGKILL)
        await reports.until("one", "is ready after", times=2)
        assert ("one", "was ended by SIGKILL; it starts again in 1 s") in reports
        assert (one.url, pid(two)) == (url, other)
        assert pid(one) != first
        assert await healthy(port_of(one))


async def test_a_cancelled_launch_leaves_nothing_running(tmp_path: Path) -> None:
    pids: list[int] = []
    up = asyncio.Event()

    async def run() -> None:
        async with launch([spec("one")], logs=tmp_path, report=Reports()) as (one,):
            pids.append(pid(one))
            up.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(run())
    await up.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not any(map(runs, pids))


async def test_others_come_and_go_while_one_runs(tmp_path: Path) -> None:
    reports = Reports()
    async with launch([spec("one")], logs=tmp_path, report=reports) as launched:
        later = launched.prepare([spec("two"), spec("three", "--wings")])
        assert [replica.name for replica in launched] == ["one"]
        launched.begin(later)
        await reports.until("two", "is ready after", times=1)
        await reports.until("three", "exited with status 2", times=1)
        one, two, three = launched
        assert [each.name for each in (one, two, three)] == ["one", "two", "three"]
        gone = pid(two)
        await launched.end(("demo", "two"))
        assert not runs(gone)
        assert ("demo", "two") not in launched
        assert runs(pid(one))
