import asyncio
from collections.abc import Callable

import pytest

from proxy.stages.deadlines import Deadlines

LONG, SHORT = 60.0, 0.01


async def outwait(deadlines: Deadlines, step: Callable[[], None] = lambda: None) -> None:
    """Take a step that never ends."""
    with deadlines:
        step()
        await asyncio.Event().wait()


async def test_the_first_step_is_the_replicas() -> None:
    deadlines = Deadlines(asyncio.get_running_loop(), first_s=SHORT, whole_s=LONG, gone_s=LONG)
    with pytest.raises(TimeoutError):
        await outwait(deadlines)
    assert not deadlines.blames_client


async def test_a_step_of_the_clients_blames_the_client() -> None:
    deadlines = Deadlines(asyncio.get_running_loop(), first_s=LONG, whole_s=LONG, gone_s=LONG)
    with pytest.raises(TimeoutError):
        await outwait(deadlines, lambda: deadlines.with_client(SHORT))
    assert deadlines.blames_client


async def test_each_step_has_its_own_time() -> None:
    deadlines = Deadlines(asyncio.get_running_loop(), first_s=SHORT, whole_s=LONG, gone_s=LONG)
    with deadlines:
        deadlines.with_client(LONG)
        await asyncio.sleep(2 * SHORT)
        deadlines.with_replica(LONG)
    assert not deadlines.blames_client


async def test_a_step_that_a_client_interrupts_lasts_no_longer() -> None:
    deadlines = Deadlines(asyncio.get_running_loop(), first_s=SHORT, whole_s=LONG, gone_s=LONG)

    def step() -> None:
        deadlines.with_client(LONG)
        deadlines.back_to_replica()

    with pytest.raises(TimeoutError):
        await outwait(deadlines, step)
    assert not deadlines.blames_client


async def test_no_step_outlasts_the_whole() -> None:
    deadlines = Deadlines(asyncio.get_running_loop(), first_s=LONG, whole_s=SHORT, gone_s=LONG)
    with pytest.raises(TimeoutError):
        await outwait(deadlines, lambda: deadlines.with_replica(LONG))


async def test_a_step_may_be_given_less_time_than_the_one_before() -> None:
    deadlines = Deadlines(asyncio.get_running_loop(), first_s=LONG, whole_s=LONG, gone_s=LONG)
    with pytest.raises(TimeoutError):
        await outwait(deadlines, lambda: deadlines.with_replica(SHORT))


async def test_a_block_that_was_left_in_time_is_never_cut() -> None:
    with Deadlines(asyncio.get_running_loop(), first_s=SHORT, whole_s=SHORT, gone_s=LONG):
        pass
    await asyncio.sleep(2 * SHORT)


async def test_somebody_elses_cancellation_is_no_timeout() -> None:
    task = asyncio.create_task(outwait(Deadlines(asyncio.get_running_loop(), first_s=LONG, whole_s=LONG, gone_s=LONG)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_replica_that_is_gone_has_less_time_for_its_step_however_often_it_is_hurried() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop, first_s=LONG, whole_s=LONG, gone_s=0.1)
    began = loop.time()
    looks = [loop.call_later(at, deadlines.hurry) for at in (0.0, 0.03, 0.06, 0.09)]
    with pytest.raises(TimeoutError):
        await outwait(deadlines)
    assert loop.time() - began >= 0.1
    assert not deadlines.blames_client
    assert len(looks) == 4


async def test_a_hurried_replica_that_goes_on_has_its_time_again() -> None:
    deadlines = Deadlines(asyncio.get_running_loop(), first_s=LONG, whole_s=LONG, gone_s=SHORT)
    with deadlines:
        deadlines.hurry()
        deadlines.with_replica(LONG)
        await asyncio.sleep(3 * SHORT)


async def test_a_client_is_not_hurried_by_a_replica_that_is_gone() -> None:
    deadlines = Deadlines(asyncio.get_running_loop(), first_s=LONG, whole_s=LONG, gone_s=SHORT)
    with deadlines:
        deadlines.with_client(LONG)
        deadlines.hurry()
        await asyncio.sleep(3 * SHORT)
    assert deadlines.blames_client


async def test_who_hurries_after_the_end_cuts_nothing() -> None:
    deadlines = Deadlines(asyncio.get_running_loop(), first_s=LONG, whole_s=LONG, gone_s=SHORT)
    with deadlines:
        pass
    deadlines.hurry()
    await asyncio.sleep(3 * SHORT)


async def test_a_replica_whose_time_is_over_is_spared_for_as_long_as_there_is_reason() -> None:
    loop = asyncio.get_running_loop()
    reasons = [0.02, 0.03, 0.0]
    deadlines = Deadlines(loop, first_s=SHORT, whole_s=LONG, gone_s=LONG)
    deadlines.spare = lambda: reasons.pop(0)
    began = loop.time()
    with pytest.raises(TimeoutError):
        await outwait(deadlines)
    assert loop.time() - began >= SHORT + 0.05
    assert reasons == []


async def test_nobody_is_spared_beyond_the_whole_nor_a_client_at_all() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop, first_s=SHORT, whole_s=5 * SHORT, gone_s=LONG)
    deadlines.spare = lambda: LONG
    with pytest.raises(TimeoutError):
        await outwait(deadlines)
    slow = Deadlines(loop, first_s=LONG, whole_s=LONG, gone_s=LONG)
    slow.spare = lambda: LONG
    with pytest.raises(TimeoutError):
        await outwait(slow, lambda: slow.with_client(SHORT))
    assert slow.blames_client


async def test_who_is_spared_is_hurried_all_the_same() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop, first_s=SHORT, whole_s=LONG, gone_s=SHORT)
    reasons = [LONG, 0.0]
    deadlines.spare = lambda: reasons.pop(0)
    loop.call_later(5 * SHORT, deadlines.hurry)
    with pytest.raises(TimeoutError):
        await outwait(deadlines)
    assert reasons == []
