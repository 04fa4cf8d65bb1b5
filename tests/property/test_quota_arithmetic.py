"""The integers and the calendar of lua/lib, run inside Redis, equal Python's."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from policies.quota import MAX_AMOUNT, Limit, Per, Scope, Unit
from policies.rate import Rate
from policies.window import bounds_us
from tests.lua import Lua
from tests.redis_server import on_all_servers

SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
MAY_5138_US = 100_000_000_000_000_000 // 10**3 * 1000
DAY_US = 86_400_000_000
AMOUNTS = st.integers(1, MAX_AMOUNT) | st.integers(1, 10_000)
PERIODS_US = {1_000_000: Per.SECOND, 60_000_000: Per.MINUTE, 3_600_000_000: Per.HOUR}

pytestmark = on_all_servers


def carries(period: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.just(period), st.integers(0, period - 1))


@pytest.fixture
def lua(redis_url: str) -> Lua:
    """Give what evaluates one Lua expression list behind the library."""
    return Lua(redis_url)


@SETTINGS
@given(x=AMOUNTS, y=st.integers(0, 3_600_000_000), d=AMOUNTS)
@example(x=MAX_AMOUNT, y=3_600_000_000, d=3_600_000_000)
@example(x=MAX_AMOUNT - 1, y=3_599_999_999, d=MAX_AMOUNT)
@example(x=2**53 - 3, y=2**32 - 1, d=2**53 - 2)
@example(x=7, y=0, d=3)
def test_multiply_divide_is_exact(lua: Lua, x: int, y: int, d: int) -> None:
    if x * y // d > MAX_AMOUNT:
        x %= d
    assert lua("multiply_divide(a1, a2, a3)", x, y, d) == list(divmod(x * y, d))


@SETTINGS
@given(missing=AMOUNTS, amount=AMOUNTS, period_and_carry=st.sampled_from(list(PERIODS_US)).flatmap(carries))
def test_the_wait_of_a_rate_is_the_first_microsecond_that_suffices(
    lua: Lua, missing: int, amount: int, period_and_carry: tuple[int, int]
) -> None:
    period, carry = period_and_carry
    missing = min(missing, 2_000_000 * amount)
    (wait,) = lua("refill_wait(a1, a2, a3, a4)", amount, period, carry, missing)
    assert (wait * amount + carry) // period >= missing
    assert ((wait - 1) * amount + carry) // period < missing
    limit = Limit(Scope.USER, Unit.TOKENS, amount, PERIODS_US[period])
    assert Rate(missing, carry, 0).wait_us(limit, missing) == wait


@SETTINGS
@given(day=st.integers(0, MAY_5138_US // DAY_US))
@example(day=951_782_399_999_999 // DAY_US)
@example(day=4_107_542_399_999_999 // DAY_US)
@example(day=4_107_542_400_000_000 // DAY_US)
def test_a_month_ends_as_the_calendar_says(lua: Lua, day: int) -> None:
    assert lua("month_end(a1)", day) == [bounds_us(Per.MONTH, day * DAY_US)[1] // DAY_US]
