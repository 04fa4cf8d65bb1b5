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
