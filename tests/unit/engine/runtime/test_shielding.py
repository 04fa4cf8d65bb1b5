import asyncio

import pytest

from engine.runtime.shielding import shielded
from tests.unit.proxy.gateway import until


async def test_the_result_and_the_fault_of_the_work_are_ours() -> None:
    async def work() -> int:
        return 7

    async def fail() -> None:
        raise LookupError

    assert await shielded(work()) == 7
    with pytest.raises(LookupError):
        await shielded(fail())


@pytest.mark.parametrize("cancellations", [1, 2, 5])
async def test_work_ends_however_often_we_are_cancelled_and_only_then_are_we(cancellations: int) -> None:
    may_end, begun, ended = asyncio.Event(), asyncio.Event(), False

    async def work() -> None:
        nonlocal ended
        begun.set()
        await may_end.wait()
        ended = True

    task = asyncio.create_task(shielded(work()))
    await begun.wait()
    for _ in range(cancellations):
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


async def test_a_cancellation_goes_before_the_fault_of_the_work() -> None:
    may_end, begun = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        begun.set()
        await may_end.wait()
        raise LookupError

    task = asyncio.create_task(shielded(fail()))
    await begun.wait()
    task.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, LookupError)


@pytest.mark.parametrize("cancellations", [0, 1, 3])
async def test_a_deadline_within_the_work_holds_whoever_is_cancelled(cancellations: int) -> None:
    begun, told = asyncio.Event(), list[str]()

    async def work() -> None:
        try:
            async with asyncio.timeout(0.02):
                begun.set()
                await asyncio.Event().wait()
        except TimeoutError:
            told.append("late")
        # And the next one too: what was refused before is no reason to refuse it.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await asyncio.Event().wait()
        told.append("again")

    task = asyncio.create_task(shielded(work()))
    await begun.wait()
    for _ in range(cancellations):
        task.cancel()
    await asyncio.wait([task], timeout=5)
    assert told == ["late", "again"]
    assert task.cancelled() is (cancellations > 0)


async def test_work_within_work_is_as_safe() -> None:
    may_end, begun, told = asyncio.Event(), asyncio.Event(), list[str]()

    async def inner() -> None:
        begun.set()
        await may_end.wait()
        told.append("inner")

    async def outer() -> None:
        try:
            async with asyncio.timeout(0.02):
                await shielded(inner())
        except TimeoutError:
            told.append("late")

    task = asyncio.create_task(shielded(outer()))
    await begun.wait()
    for _ in range(2):
        task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    may_end.set()
    await asyncio.wait([task], timeout=5)
    assert told == ["inner", "late"]
    assert task.cancelled()


async def test_work_begins_even_if_we_are_cancelled_at_once() -> None:
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    async def leave() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await shielded(work())

    task = asyncio.create_task(leave())
    await until(task.done)
    assert task.cancelled()
    assert done.is_set()
