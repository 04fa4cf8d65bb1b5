"""The engine gives slots in order, takes them back always, and counts what it did."""

import asyncio
from typing import Any

import pytest

from engine.sim.config import SimConfig
from engine.sim.engine import Engine
from engine.sim.sequence import Finish, Limits, Sequence, Step, Trap
from engine.sim.tokens import Text

FOREVER = Limits(1_000_000, ignore_eos=True)


def engine(**size: Any) -> Engine:
    return Engine(SimConfig(**{"prefill_us_per_token": 0, "decode_us_per_token": 0, **size}))


def sequence(index: int = 0, limits: Limits | None = None, prompt: tuple[int, ...] = (1, 2, 3)) -> Sequence:
    return Sequence(index, prompt, Text(index, prompt, 0, 10), limits or Limits(4, ignore_eos=True))


async def run(one: Engine, *sequences: Sequence) -> list[Step]:
    async with one.run(sequences) as steps:
        return [step async for step in steps]


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_steps_of_each_sequence_come_in_order_to_their_end() -> None:
    one = engine()
    steps = await run(one, sequence(0), sequence(1))
    for index in (0, 1):
        assert [step.completion_tokens for step in steps if step.index == index] == [1, 2, 3, 4]
    assert one.counters.generated_tokens == 8
    assert one.counters.prompt_tokens == 6
    assert one.counters.finished[Finish.LENGTH] == 2


async def test_no_more_run_than_there_are_slots() -> None:
    one = engine(max_num_seqs=2)
    most = 0
    async with one.run([sequence(index) for index in range(5)]) as steps:
        async for _ in steps:
            most = max(most, len(one.running))
    await settle()
    assert most == 2
    assert (len(one.running), one.waiting) == (0, 0)


async def test_who_leaves_gives_back_its_slot_and_its_blocks() -> None:
    one = engine(max_num_seqs=1, block_size=1, num_blocks=10)
    async with one.run([sequence(0, FOREVER), sequence(1)]) as steps:
        await anext(steps)
        assert (len(one.running), one.waiting) == (1, 1)
        assert one.kv_usage > 0
    await settle()
    assert (len(one.running), one.waiting, one.kv_usage) == (0, 0, 0)
    assert one.counters.generated_tokens >= 1
    assert not any(one.counters.finished.values())
    assert len(await run(one, sequence())) == 4


async def test_overload_is_a_full_waiting_queue() -> None:
    one = engine(max_num_seqs=1, max_num_queued_reqs=1)
    async with one.run([sequence(0, FOREVER)]) as first:
        await anext(first)
        before = one.overloaded
        async with one.run([sequence(1)]):
            await settle()
            assert (before, one.overloaded) == (False, True)
    assert not engine(max_num_seqs=1).overloaded


async def test_abort_ends_running_and_waiting_ones() -> None:
    one = engine(max_num_seqs=1)
    async with one.run([sequence(0, FOREVER), sequence(1)]) as steps:
        await anext(steps)
        one.abort()
        ends = [step async for step in steps if step.finish]
    assert sorted(step.index for step in ends) == [0, 1]
    assert {step.finish for step in ends} == {Finish.ABORT}
    assert one.counters.finished[Finish.ABORT] == 2


async def test_a_cached_prompt_is_not_computed_again() -> None:
    one = engine(block_size=2)
    prompt = tuple(range(9))
    first, second = sequence(0, prompt=prompt), sequence(1, prompt=prompt)
    await run(one, first)
    await run(one, second)
    assert (first.cached_tokens, second.cached_tokens) == (0, 8)
    assert (one.counters.prompt_tokens, one.counters.cached_tokens) == (18, 8)


async def test_a_crash_step_ends_the_sequence_without_success() -> None:
    one = engine()
    steps = await run(one, sequence(0, Limits(9, ignore_eos=True, trap=Trap.CRASH, trap_after=2)))
    assert [step.trap for step in steps] == [None, None, Trap.CRASH]
    assert not any(one.counters.finished.values())


async def test_a_fault_of_our_own_comes_out_instead_of_silence() -> None:
    with pytest.raises(TypeError):
        await run(engine(), Sequence(0, (1,), Text(0, (1,), 0, 9), Limits(4, stop=(7,))))  # type: ignore[arg-type]


async def test_a_hung_sequence_keeps_its_slot_and_its_count() -> None:
    one = engine(max_num_seqs=1)
    async with one.run([sequence(0, Limits(9, ignore_eos=True, trap=Trap.HANG, trap_after=2))]) as steps:
        assert [(await anext(steps)).completion_tokens for _ in range(2)] == [1, 2]
        await settle()
        assert (len(one.running), one.counters.generated_tokens) == (1, 2)
    await settle()
    assert len(one.running) == 0
