"""A pace keeps its remainder, pays its debt first and never runs backwards."""

from policies.holds import Hold
from policies.quota import Limit, Per, Scope, Unit
from policies.rate import Rate

SEVEN_A_SECOND = Limit(Scope.USER, Unit.TOKENS, 7, Per.SECOND)


def hold(cost: int) -> Hold:
    return Hold(request_id="r", cost=cost)


def test_refilling_in_many_steps_is_refilling_in_one() -> None:
    rate = Rate.unused(0).take(hold(7))
    stepped = rate
    for now_us in range(0, 900_001, 333):
        stepped = stepped.at(SEVEN_A_SECOND, now_us)
    assert stepped.at(SEVEN_A_SECOND, 900_000) == rate.at(SEVEN_A_SECOND, 900_000)


def test_the_wait_is_exact_to_the_microsecond() -> None:
    rate = Rate.unused(0).take(hold(7)).at(SEVEN_A_SECOND, 100)
    wait = rate.wait_us(SEVEN_A_SECOND, 1)
    assert rate.at(SEVEN_A_SECOND, 100 + wait - 1).used == 7
    assert rate.at(SEVEN_A_SECOND, 100 + wait).used == 6


def test_debt_is_paid_off_before_anything_is_there_again() -> None:
    rate = Rate.unused(0).take(hold(7)).post(hold(7), 21)
    assert rate.at(SEVEN_A_SECOND, 2_000_000).used == 7
    assert rate.reset_us(SEVEN_A_SECOND) == 3_000_000


def test_a_refund_after_the_refill_does_not_credit_twice() -> None:
    rate = Rate.unused(0).take(hold(7)).at(SEVEN_A_SECOND, 1_000_000).post(hold(7), 0)
    assert rate.used == 0


def test_a_clock_that_runs_backwards_refills_nothing() -> None:
    rate = Rate.unused(5_000_000).take(hold(7))
    assert rate.at(SEVEN_A_SECOND, 1_000_000) == rate


def test_a_changed_amount_keeps_what_was_used() -> None:
    larger = Limit(Scope.USER, Unit.TOKENS, 100, Per.SECOND)
    assert Rate.unused(0).take(hold(7)).at(larger, 0).used == 7
