from collections.abc import Callable

import pytest

from proxy.settings.loading import parse

Faults = Callable[..., dict[str, str]]


def test_a_variable_stands_over_the_file(minimal: str) -> None:
    env = {
        "TOLLWAY__LISTEN__PORT": "8081",
        "TOLLWAY__REDIS__ALLOW_UNSAFE": "true",
        "TOLLWAY__LIMITS__IDLE_S_MAX": "1.5",
        "TOLLWAY__MODELS__0__ALIASES": '["x", "y"]',
        "HOME": "/root",
    }
    settings = parse(minimal, env)
    assert settings.listen.port == 8081
    assert settings.redis.allow_unsafe is True
    assert settings.limits.idle_s_max == 1.5
    assert settings.models[0].aliases == ("x", "y")


@pytest.mark.parametrize("text", ["123", "true", '"quoted"', "1979-05-27"])
def test_a_text_field_takes_a_value_as_it_stands(minimal: str, text: str) -> None:
    assert parse(minimal, {"TOLLWAY__MODELS__0__CACHE_SCOPE": text}).models[0].cache_scope == text


def test_tables_on_the_way_are_made(minimal: str) -> None:
    text = minimal.replace("http://r:8000", "http://127.0.0.1:8000")
    settings = parse(text, {"TOLLWAY__MODELS__0__LAUNCH__ENGINE": "vllm"})
    assert settings.models[0].launch is not None
    assert settings.models[0].launch.engine == "vllm"


def test_the_index_past_the_end_appends(minimal: str) -> None:
    env = {f"TOLLWAY__MODELS__0__REPLICAS__{index}__NAME": f"r{index}" for index in range(12)}
    env |= {f"TOLLWAY__MODELS__0__REPLICAS__{index}__URL": f"http://r{index}" for index in range(12)}
    settings = parse(minimal, env)
    assert [replica.name for replica in settings.models[0].replicas] == [f"r{index}" for index in range(12)]


def test_a_part_names_the_key_that_equals_it_but_for_case(minimal: str) -> None:
    text = minimal.replace("plans.p ", "plans.Pro ").replace('plans = ["p"]', 'plans = ["Pro"]')
    assert parse(text, {"TOLLWAY__PLANS__PRO__LANE": "batch"}).plans["Pro"].lane == "batch"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("TOLLWAY__MODELS__3__NAME", "expected an index from 0 to 1, not '3'"),
        ("TOLLWAY__MODELS__FIRST__NAME", "expected an index from 0 to 1, not 'FIRST'"),
        ("TOLLWAY__LISTEN____PORT", "has an empty part"),
        ("TOLLWAY__", "has an empty part"),
        ("TOLLWAY__MODELS__0__NAME__X", "looks for 'X' inside a value that is neither a table nor a list"),
    ],
)
def test_a_variable_that_points_nowhere_is_a_fault(faults: Faults, name: str, message: str) -> None:
    assert faults(env={name: "1"}) == {name: message}


def test_a_fault_names_the_variable_behind_it(faults: Faults) -> None:
    assert faults(env={"TOLLWAY__LISTN__PORT": "1"}) == {
        "listn": "unknown key; did you mean listen? (set by TOLLWAY__LISTN__PORT)"
    }
