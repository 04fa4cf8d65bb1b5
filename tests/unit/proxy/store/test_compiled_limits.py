"""What a plan asks survives as text, one group for each key."""

import orjson
import pytest

from policies.quota import MAX_AMOUNT, Limit, Per, Scope, Unit, in_order
from proxy.store import compiled_limits as module
from proxy.store.compiled_limits import PLAIN_BYTES_MAX, CompiledLimits, code_of, compiled, read
from tests.lua import example_in

EVERY = tuple(
    Limit(scope, unit, MAX_AMOUNT, per)
    for scope in Scope
    for unit, per in [*((unit, per) for unit in (Unit.TOKENS, Unit.REQUESTS) for per in Per), (Unit.CONCURRENT, None)]
)
DAYS_TOKENS, IN_FLIGHT = (Unit.TOKENS, Per.DAY), (Unit.CONCURRENT, None)


def test_every_limit_there_is_survives() -> None:
    assert read(orjson.loads(CompiledLimits(EVERY).text)) == in_order(EVERY)
    assert set(in_order(EVERY)) == set(EVERY)


def test_a_scope_has_one_key_for_its_rates_and_windows_and_one_for_what_is_in_flight() -> None:
    assert CompiledLimits(EVERY).keys("acme", "ada", "demo") == tuple(
        f"tollway:{{acme}}:{counted}:{subject}"
        for counted in ("used", "in-flight")
        for subject in ("tenant:", "user:ada", "model:demo", "user_model:ada:demo")
    )
    one_each = [Limit(scope, unit, 1, per) for scope in Scope for unit, per in [DAYS_TOKENS, IN_FLIGHT]]
    assert [group[0] for group in orjson.loads(CompiledLimits(tuple(one_each)).text)] == [*Scope, *Scope]


def test_keys_are_each_subjects_own_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEMPLATES_MAX", 2)
    asked = CompiledLimits((Limit(Scope.USER_MODEL, Unit.TOKENS, 1, Per.DAY),))
    for model in ("small", "large", "huge", "small"):
        for user in ("ada", "bob"):
            assert asked.keys("acme", user, model) == (f"tollway:{{acme}}:used:user_model:{user}:{model}",)


def test_codes_of_a_counter_rise() -> None:
    of_a_user = tuple(Limit(Scope.USER, limit.unit, 1, limit.per) for limit in EVERY if limit.scope is Scope.USER)
    for _, *pairs in orjson.loads(CompiledLimits(of_a_user).text):
        assert pairs[::2] == sorted(set(pairs[::2]))
    assert {code_of(limit) for limit in EVERY} == set(range(11))


def test_a_plan_is_compiled_once() -> None:
    limits = EVERY[:3]
    assert compiled(limits) is compiled(limits)
    assert compiled(tuple(reversed(limits))).text == compiled(limits).text


def test_many_limits_take_little_room() -> None:
    assert len(CompiledLimits(EVERY).text) < PLAIN_BYTES_MAX


def test_what_the_scripts_take_is_what_their_example_says() -> None:
    limits = (Limit(Scope.USER, Unit.TOKENS, 9_000, Per.MINUTE), Limit(Scope.USER, Unit.REQUESTS, 60, Per.DAY))
    assert CompiledLimits(limits).packed == example_in("compiled_limits")


def test_no_limits_are_no_groups() -> None:
    assert (CompiledLimits(()).text, CompiledLimits(()).keys("acme", "ada", "demo")) == (b"[]", ())


BROKEN: list[object] = [
    7,
    None,
    [["user", 99, 1]],
    [["user", 1]],
    [["nobody", 1, 1]],
    [[]],
    [1],
    {"a": 1},
    "",
    "?",
    "W10=",
]


@pytest.mark.parametrize("groups", BROKEN)
def test_what_is_not_compiled_limits_is_a_value_error(groups: object) -> None:
    with pytest.raises(ValueError):
        read(groups)
