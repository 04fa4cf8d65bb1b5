"""The retry budget against its definition: a list of everything that was asked and granted."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from policies.retry import FREE_PER_S, SHARE_PER_MILLE, WINDOW_S, RetryBudget

steps = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 1, 3, 9, 10, 11, 1_000]), st.integers(0, 90), st.integers(0, 90)), max_size=12
)


def recent(counts: Counter[int], now_s: int) -> int:
    return sum(count for at_s, count in counts.items() if now_s - WINDOW_S < at_s)


@given(start_s=st.integers(0, 10_000), steps=steps)
def test_retries_never_pass_a_fifth_of_the_requests_and_a_floor(
    start_s: int, steps: list[tuple[int, int, int]]
) -> None:
    budget, now_s = RetryBudget(), start_s
    asked: Counter[int] = Counter()
    granted: Counter[int] = Counter()
    for passed_s, requests, retries in steps:
        now_s += passed_s
        for _ in range(requests):
            budget.asked(now_s)
        asked[now_s] += requests
        left = FREE_PER_S * WINDOW_S + SHARE_PER_MILLE * recent(asked, now_s) // 1_000 - recent(granted, now_s)
        taken = [budget.retries(now_s) for _ in range(retries)]
        assert taken == [at < left for at in range(retries)]
        granted[now_s] += sum(taken)


def test_a_replica_that_dies_with_a_hundred_requests_has_them_all_retried() -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget.asked(0)
    assert [budget.retries(5) for _ in range(121)] == [True] * 120 + [False]


def test_a_fleet_that_dies_is_asked_for_a_fifth_more() -> None:
    budget, retried = RetryBudget(), 0
    for second in range(100):
        for _ in range(1_000):
            budget.asked(second)
            retried += budget.retries(second)
    assert retried <= 0.2 * 100_000 + FREE_PER_S * WINDOW_S * (100 / WINDOW_S)
