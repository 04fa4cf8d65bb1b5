"""The edges of calendar windows."""

from datetime import UTC, datetime

import pytest

from policies.holds import Hold
from policies.quota import MAX_AMOUNT, Limit, Per, Scope, Unit
from policies.window import Window, bounds_us

MONTH = Limit(Scope.USER, Unit.TOKENS, 100, Per.MONTH)


def us(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        ((2024, 2, 29, 23, 59, 59), (2024, 2, 1), (2024, 3, 1)),
        ((2023, 2, 28), (2023, 2, 1), (2023, 3, 1)),
        ((2100, 2, 28), (2100, 2, 1), (2100, 3, 1)),
        ((2026, 12, 31, 23, 59, 59), (2026, 12, 1), (2027, 1, 1)),
        ((2026, 4, 1), (2026, 4, 1), (2026, 5, 1)),
    ],
)
def test_a_month_is_half_open(now: tuple[int, ...], start: tuple[int, ...], end: tuple[int, ...]) -> None:
    assert bounds_us(Per.MONTH, us(*now)) == (us(*start), us(*end))


def test_the_last_microsecond_of_a_day_belongs_to_it() -> None:
    midnight = us(2026, 11, 21)
    assert bounds_us(Per.DAY, midnight - 1) == (us(2026, 11, 20), midnight)
    assert bounds_us(Per.DAY, midnight) == (midnight, us(2026, 11, 22))


def test_what_is_returned_after_the_window_closed_credits_nothing() -> None:
    november, december = us(2026, 11, 30, 23), us(2026, 12, 1)
    window = Window.unused(november).at(MONTH, november)
    old = Hold(request_id="old", cost=60, window_end_us=window.end_us)
    window = window.take(old).at(MONTH, december)
    assert (window.settled, window.pending) == (0, 0)
    new = Hold(request_id="new", cost=90, window_end_us=window.end_us)
    window = window.take(new).post(old, 5)
    assert (window.settled, window.pending) == (0, 90)
    assert window.post(new, 70).settled == 70


def test_a_clock_that_runs_backwards_does_not_reopen_a_window() -> None:
    window = Window.unused(0).at(MONTH, us(2026, 12, 1)).post(Hold(request_id="r", cost=0), 40)
    assert window.at(MONTH, us(2026, 11, 30)).used == 40


def test_what_was_granted_is_there_in_this_window_alone() -> None:
    window = Window.unused(0).at(MONTH, us(2026, 11, 30)).post(Hold(request_id="r", cost=0), 100)
    assert window.grant(MONTH, 30).used == 70
    assert window.grant(MONTH, 130).used == -30
    assert window.grant(MONTH, 30).at(MONTH, us(2026, 12, 1)).used == 0
    assert window.grant(MONTH, 130).at(MONTH, us(2026, 12, 1)).used == 0


def test_a_reset_takes_no_grant_back() -> None:
    window = Window.unused(0).at(MONTH, us(2026, 11, 30)).post(Hold(request_id="r", cost=0), 100)
    assert window.grant(MONTH, None).used == 0
    assert window.grant(MONTH, 130).grant(MONTH, None).used == -30


def test_two_amounts_of_one_window_never_leave_more_than_can_be_counted() -> None:
    small, large = MONTH._replace(amount=100), MONTH._replace(amount=2**50)
    granted = Window.unused(us(2026, 11, 1)).at(small, us(2026, 11, 1)).grant(small, MAX_AMOUNT)
    assert small.amount - granted.used == MAX_AMOUNT
    for more in (None, 7):
        assert large.amount - granted.grant(large, more).used == MAX_AMOUNT
