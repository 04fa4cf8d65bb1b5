from collections.abc import Callable

import pytest

from policies.quota import Limit, Per, Scope, Unit
from proxy.settings.loading import parse

Faults = Callable[..., dict[str, str]]


def _limit(rest: str) -> tuple[str, str]:
    return ("plans.p = {}", f"plans.p.limits = [{{ scope = 'user', {rest} }}]")


def test_a_line_of_a_plan_is_a_limit_of_the_policies(minimal: str) -> None:
    text = minimal.replace(*_limit("unit = 'tokens', amount = 9_007_199_254_740_991, per = 'month'"))
    [line] = parse(text, {}).plans["p"].limits
    assert line.limit == Limit(Scope.USER, Unit.TOKENS, 2**53 - 1, Per.MONTH)


@pytest.mark.parametrize("amount", ["0", "-1", "9_007_199_254_740_992", "true", "1.0", "'1'", "inf", "10" * 30])
def test_an_amount_that_redis_could_not_count_is_refused(faults: Faults, amount: str) -> None:
    assert list(faults(_limit(f"unit = 'requests', amount = {amount}, per = 'day'"))) == ["plans.p.limits[0].amount"]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("unit = 'concurrent', amount = 1, per = 'day'", "must be left out for unit = 'concurrent'"),
        ("unit = 'tokens', amount = 1", "is missing: unit = 'tokens' counts per second, minute, hour, day or month"),
        ("unit = 'tokens', amount = 1, per = 'week'", "must be 'second', 'minute', 'hour', 'day' or 'month'"),
    ],
)
def test_per_fits_the_unit(faults: Faults, rest: str, message: str) -> None:
    assert faults(_limit(rest)) == {"plans.p.limits[0].per": message}


def test_names_of_tables_are_bound_too(faults: Faults) -> None:
    assert faults(more='[plans."a\\tb"]') == {
        'plans."a\tb"': "must be printable and neither begin nor end with a space"
    }
