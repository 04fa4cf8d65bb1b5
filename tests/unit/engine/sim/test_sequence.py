"""A sequence ends where it should, and its steps say what was generated."""

from hypothesis import given
from hypothesis import strategies as st

from engine.sim.sequence import Finish, Limits, Sequence, Step, Trap
from engine.sim.tokens import Text

NATURAL = 30


def sequence(limits: Limits) -> Sequence:
    return Sequence(0, (1, 2, 3), Text(0, (1, 2, 3), 0, NATURAL), limits)


def run(limits: Limits) -> tuple[Sequence, list[Step]]:
    one, steps = sequence(limits), []
    while one.finish is None:
        steps.append(one.advance())
    return one, steps


FULL, _ = run(Limits(200, ignore_eos=True))


def test_max_tokens_is_length() -> None:
    one, steps = run(Limits(5, ignore_eos=True))
    assert [step.completion_tokens for step in steps] == [1, 2, 3, 4, 5]
    assert [step.finish for step in steps] == [None] * 4 + [Finish.LENGTH]
    assert "".join(step.delta for step in steps) == one.spelled


def test_the_natural_end_is_a_token_without_text() -> None:
    one, steps = run(Limits(1000))
    assert len(steps) == one.text.natural_tokens
    assert (steps[-1].finish, steps[-1].delta, steps[-1].stop_reason) == (Finish.STOP, "", None)
    assert FULL.spelled.startswith(one.spelled)


def test_min_tokens_puts_the_natural_end_off() -> None:
    one, steps = run(Limits(1000, min_tokens=80))
    assert len(steps) == 81 > one.text.natural_tokens


def test_a_stop_string_is_cut_out_and_named() -> None:
    stop = FULL.spelled[20:24]
    one, steps = run(Limits(1000, stop=("never", stop), ignore_eos=True))
    assert one.spelled == FULL.spelled[: FULL.spelled.index(stop)]
    assert (steps[-1].finish, steps[-1].stop_reason) == (Finish.STOP, stop)
    assert "".join(step.delta for step in steps) == one.spelled


def test_min_tokens_puts_a_stop_string_off() -> None:
    stop = FULL.spelled[4:6]
    one, steps = run(Limits(1000, min_tokens=60, stop=(stop,), ignore_eos=True))
    assert len(steps) > 60
    assert stop in one.spelled


@given(st.integers(0, 60), st.integers(1, 12))
def test_no_delta_shows_what_a_stop_string_takes_back(start: int, length: int) -> None:
    stop = FULL.spelled[start : start + length]
    one, steps = run(Limits(200, stop=(stop,), ignore_eos=True))
    assert "".join(step.delta for step in steps) == one.spelled
    assert stop not in one.spelled


def test_a_held_back_token_is_counted_with_an_empty_delta() -> None:
    _, steps = run(Limits(3, stop=("x" * 50,), ignore_eos=True))
    assert [step.delta for step in steps[:2]] == ["", ""]
    assert steps[-1].delta == "".join(token.text for step in steps if (token := step.token))


def test_a_trap_waits_for_its_token() -> None:
    one = sequence(Limits(10, trap=Trap.CRASH, trap_after=2))
    seen = []
    for _ in range(3):
        seen.append(one.trapped)
        one.advance()
    assert seen == [None, None, Trap.CRASH]


def test_an_abort_keeps_what_was_generated() -> None:
    one = sequence(Limits(10, ignore_eos=True))
    one.advance()
    step = one.abort()
    assert (step.finish, step.token, step.completion_tokens) == (Finish.ABORT, None, 1)
