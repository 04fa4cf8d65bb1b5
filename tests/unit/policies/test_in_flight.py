"""Places in flight are held until they are given back."""

from policies.holds import Hold
from policies.in_flight import PENDING_US_MAX, InFlight
from policies.quota import Limit, Scope, Unit

TWO = Limit(Scope.USER, Unit.CONCURRENT, 2, None)


def hold(name: str, ends_at_us: int) -> Hold:
    return Hold(request_id=name, cost=1, ends_at_us=ends_at_us)


def test_a_place_is_held_past_its_expected_end() -> None:
    places = InFlight.unused(0).take(hold("a", 5)).at(TWO, 60_000_000)
    assert places.used == 1
    assert places.post(hold("a", 5), 1).used == 0


def test_the_wait_is_the_earliest_end_and_at_least_a_second() -> None:
    places = InFlight.unused(0).take(hold("a", 9_000_000)).take(hold("b", 4_000_000))
    assert places.wait_us(TWO, 1) == 4_000_000
    assert places.wait_us(TWO, 2) == 9_000_000
    assert places.at(TWO, 8_900_000).wait_us(TWO, 1) == 1_000_000
    assert places.reset_us(TWO) == 9_000_000


def test_a_place_that_nobody_can_give_back_any_more_is_free() -> None:
    assert InFlight.unused(0).take(hold("a", 5)).at(TWO, PENDING_US_MAX + 6).used == 0
