"""A background task ends with its owner's block."""

import asyncio

import pytest

from engine.runtime.background import Background
from tests.unit.proxy.gateway import until


async def test_it_ends_with_the_block() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with Background(work, "test"):
        await asyncio.sleep(0)
        assert not ended.is_set()
    assert ended.is_set()


async def test_what_it_raises_is_logged_and_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise ValueError("broken")
        await asyncio.Event().wait()

    async with Background(work, "test", pause_s=0):
        await until(lambda: len(runs) == 3)
    assert [(line.message, line.task) for line in caplog.records] == [("background_failed", "test")] * 2  # type: ignore[attr-defined]
    assert all(record.exc_info for record in caplog.records)


async def test_work_that_is_done_is_not_done_again() -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)

    async with Background(work, "test", pause_s=0):
        for _ in range(5):
            await asyncio.sleep(0)
    assert runs == [1]


async def test_a_cancelled_owner_is_cancelled_though_it_waits() -> None:
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)

    async def owner() -> None:
        async with Background(work, "test"):
            await asyncio.sleep(0)

    task = asyncio.create_task(owner())
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    assert done
    assert task.cancelled()
