import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from engine.shielding import shielded, uncut
from tests.unit.proxy.gateway import until

Shield = Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]


@pytest.fixture(params=[shielded, uncut], ids=["a task of its own", "in our task"])
def shield(request: pytest.FixtureRequest) -> Shield:
    """Return each way to let work end, one after another."""
    chosen: Shield = request.param
    return chosen


async def under(shield: Shield, work: Coroutine[Any, Any, Any]) -> None:
    """Shield work in a task of the test's."""
    await shield(work)


async def test_the_result_and_the_fault_of_the_work_are_ours(shield: Shield) -> None:
    async def work() -> int:
        return 7

    async def fail() -> None:
        raise LookupError

    assert await shield(work()) == 7
    with pytest.raises(LookupError):
        await shield(fail())


@pytest.mark.parametrize("cancellations", [1, 2, 5])
async def test_work_ends_however_often_we_are_cancelled_and_only_then_are_we(
    shield: Shield, cancellations: int
) -> None:
    may_end, begun, ended = asyncio.Event(), asyncio.Event(), False

    async def work() -> None:
        nonlocal ended
        begun.set()
        await may_end.wait()
        ended = True

    task = asyncio.create_task(under(shield, work()))
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


async def test_a_cancellation_goes_before_the_fault_of_the_work(shield: Shield) -> None:
    may_end, begun = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        begun.set()
        await may_end.wait()
        raise LookupError

    task = asyncio.create_task(under(shield, fail()))
    await begun.wait()
    task.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, LookupError)


async def test_work_begins_even_if_we_are_cancelled_at_once(shield: Shield) -> None:
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    async def leave() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await shield(work())

    task = asyncio.create_task(leave())
    await until(task.done)
    assert task.cancelled()
    assert done.is_set()


async def test_work_meets_itself_what_becomes_of_what_it_waits_for() -> None:
    loop = asyncio.get_running_loop()
    met: list[type[BaseException]] = []

    async def work() -> None:
        given_up, failed = loop.create_future(), loop.create_future()
        loop.call_soon(given_up.cancel)
        loop.call_soon(failed.set_exception, LookupError())
        for awaited in (given_up, failed):
            try:
                await awaited
            except (asyncio.CancelledError, LookupError) as fault:
                met.append(type(fault))
        await asyncio.sleep(0)

    await uncut(work())
    assert met == [asyncio.CancelledError, LookupError]


async def test_work_is_closed_with_who_waits_for_it() -> None:
    closed = False

    async def work() -> None:
        nonlocal closed
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            closed = True

    waiting = under(uncut, work())
    waiting.send(None)
    waiting.close()
    assert closed
