"""Configs that work and are probably not meant."""

from pathlib import Path

import pytest

from proxy.settings.advice import advice
from proxy.settings.loading import load, parse

LIMITS = 'limits = [{ scope = "user", unit = "requests", amount = 5, per = "minute" }]'
SOUND = f"""
auth.issuers = [{{ issuer = "i", key_file = "i.pem" }}]
models = [{{ name = "m", context_tokens = 1000, replicas = [{{ name = "r", url = "http://r:8000" }}] }}]
plans.p.{LIMITS}
tenants.t = {{ plans = ["p"] }}
"""
DEVELOPMENT = SOUND.replace('key_file = "i.pem"', 'development = true, algorithms = ["HS256"]')


def told(text: str) -> dict[str, str]:
    return dict(advice(parse(text, {}, folder=Path("/"))))


def test_what_is_meant_is_not_talked_about() -> None:
    assert told(SOUND) == {}
    assert told(DEVELOPMENT) == {}, "it listens on the loopback"
    assert advice(load(None, {})) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_operators_and_development_tokens_are_not_for_everybody(host: str) -> None:
    assert list(told(f'admin.host = "{host}"\n{SOUND}')) == ["admin.host"]
    assert list(told(f'listen.host = "{host}"\n{DEVELOPMENT}')) == ["auth.issuers[0].development"]
    assert told(f'listen.host = "{host}"\n{SOUND}') == {}


def test_a_model_is_free_where_others_are_not() -> None:
    models = SOUND.replace(
        'http://r:8000" }] }]',
        'http://r:8000" }] },\n{ name = "n", context_tokens = 10, replicas = [{ name = "f", url = "http://f" }] }]',
    )
    assert told(models) == {}
    price = '\nprices = [{ model = "m", version = "1", prompt = 1, cached = 1, completion = 1 }]\n'
    assert told(price + models) == {"models[1]": "'n' has no price, and others have: it is free"}


@pytest.mark.parametrize("field", ["min_completion", "default_completion"])
def test_a_size_above_the_context_is_never_reached(field: str) -> None:
    assert told(SOUND.replace("= 1000,", f"= 1000, {field} = 1001,")) == {
        f"models[0].{field}": "is 1001, more than context_tokens (1000)"
    }
    assert told(SOUND.replace("= 1000,", f"= 1000, {field} = 1000,")) == {}
    assert told(SOUND.replace("= 1000,", "= 10,")) == {}, "nobody asked for what is usual"


def test_a_plan_without_limits_is_open() -> None:
    assert list(told(SOUND.replace(f"plans.p.{LIMITS}", "plans.p = {}"))) == ["plans.p.limits"]
