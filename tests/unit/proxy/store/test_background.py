"""A background task ends with its owner's block."""

import asyncio

import pytest

from proxy.store.background import Background


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


async def test_what_it_raised_is_raised_on_leaving() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with Background(work, "test"):
            await asyncio.sleep(0)


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
