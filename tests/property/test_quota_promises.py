"""What the quota promises (G2), over any history: windows are never exceeded, a pace only by its debt."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from policies.book import Book, Request
from policies.quota import Ask, Granted, Limit, Per, Scope, Subject, Unit, Used

PACE = Limit(Scope.USER, Unit.TOKENS, 100, Per.SECOND)
DAY = Limit(Scope.TENANT, Unit.TOKENS, 700, Per.DAY)
ADA = Subject(tenant="acme", user="ada", model="demo")
START_US = 1_795_000_000_000_000


@dataclass(frozen=True)
class Step:
    """After `wait_us`, reserve `prompt` to `prompt + completion`; later settle the oldest open one."""

    wait_us: int
    prompt: int
    completion: int
    settles: int
    """How many open reservations to settle then."""
    part: int
    """Per cent of its reservation that a settle uses; over 100 is an estimate that was wrong."""


def steps(part: st.SearchStrategy[int]) -> st.SearchStrategy[list[Step]]:
    return st.lists(
        st.builds(Step, st.integers(0, 400_000), st.integers(0, 60), st.integers(0, 60), st.integers(0, 3), part),
        max_size=40,
    )


@given(steps(st.integers(0, 100)))
def test_a_window_is_never_exceeded(history: list[Step]) -> None:
    book, now_us, waiting = Book(), START_US, []
    for number, step in enumerate(history):
        now_us += step.wait_us
        request = Request(str(number), ADA, (DAY,))
        ask = Ask(step.prompt, 1, step.completion, 0, 1)
        decision = book.reserve(request, ask, now_us)
        if isinstance(decision, Granted):
            waiting.append((request, step.prompt + decision.max_completion))
        for _ in range(min(step.settles, len(waiting))):
            request, reserved = waiting.pop(0)
            book.settle(request, Used(reserved * step.part // 100), now_us)
        (status,) = book.statuses(ADA, (DAY,), now_us)
        assert status.used + status.remaining == DAY.amount


@given(steps(st.integers(0, 150)))
def test_since_any_idle_moment_a_pace_settles_at_most_burst_refill_and_debt(history: list[Step]) -> None:
    book, now_us, waiting = Book(), START_US, []
    idle: list[tuple[int, int, int]] = [(now_us, 0, 0)]
    settled = debt = 0
    for number, step in enumerate(history):
        now_us += step.wait_us
        request = Request(str(number), ADA, (PACE,))
        decision = book.reserve(request, Ask(step.prompt, 1, step.completion, 0, 1), now_us)
        if isinstance(decision, Granted):
            waiting.append((request, step.prompt + decision.max_completion))
        for _ in range(min(step.settles, len(waiting))):
            request, reserved = waiting.pop(0)
            tokens = reserved * step.part // 100
            book.settle(request, Used(tokens), now_us)
            settled, debt = settled + tokens, debt + max(0, tokens - reserved)
        for since_us, before, owed in idle:
            refill = (now_us - since_us) * PACE.amount // 1_000_000 + 1
            assert settled - before <= PACE.amount + refill + debt - owed
        if not waiting:
            idle.append((now_us, settled, debt))


@given(steps(st.integers(0, 100)), st.lists(st.none() | st.integers(1, 300), max_size=40))
def test_a_window_holds_its_amount_and_what_was_granted_in_it_and_no_more(
    history: list[Step], grants: list[int | None]
) -> None:
    book, now_us, waiting = Book(), START_US, []
    settled = granted = 0
    for number, step in enumerate(history):
        now_us += step.wait_us
        if number < len(grants):
            was, status = book.grant(DAY, ADA, grants[number], now_us)
            granted += was - status.used
            assert status.remaining == max(0, DAY.amount - status.used)
        request = Request(str(number), ADA, (DAY,))
        decision = book.reserve(request, Ask(step.prompt, 1, step.completion, 0, 1), now_us)
        if isinstance(decision, Granted):
            waiting.append((request, step.prompt + decision.max_completion))
        for _ in range(min(step.settles, len(waiting))):
            request, reserved = waiting.pop(0)
            book.settle(request, Used(reserved * step.part // 100), now_us)
            settled += reserved * step.part // 100
        pending = sum(reserved for _, reserved in waiting)
        (status,) = book.statuses(ADA, (DAY,), now_us)
        assert status.used == settled + pending - granted
        assert settled + pending <= DAY.amount + granted
    (tomorrow,) = book.statuses(ADA, (DAY,), now_us + 86_400_000_000)
    assert tomorrow.remaining == DAY.amount


@given(steps(st.integers(0, 100)), st.lists(st.none() | st.integers(1, 300), max_size=40))
def test_a_grant_makes_a_pace_full_at_most(history: list[Step], grants: list[int | None]) -> None:
    book, now_us = Book(), START_US
    for number, step in enumerate(history):
        now_us += step.wait_us
        if number < len(grants):
            was, status = book.grant(PACE, ADA, grants[number], now_us)
            given = was if grants[number] is None else grants[number] or 0
            assert status.used == max(0, was - given)
        book.reserve(Request(str(number), ADA, (PACE,)), Ask(step.prompt, 1, step.completion, 0, 1), now_us)
