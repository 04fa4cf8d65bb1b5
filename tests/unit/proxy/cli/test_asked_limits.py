"""Whose limits a command is about."""

import click
import pytest

from policies.quota import Limit, Per, Scope, Subject, Unit
from proxy.cli.asked_limits import AskedLimits
from proxy.settings import load

MINUTE = Limit(Scope.USER, Unit.TOKENS, 2_000_000, Per.MINUTE)


def asked(user: str | None = "ada", model: str | None = None) -> AskedLimits:
    return AskedLimits.of(load(None, {}), tenant="acme", user=user, plan=None, model=model)


def test_a_model_is_asked_for_by_any_of_its_names_and_kept_by_its_own() -> None:
    assert (asked(model="gpt-4o-mini").model, asked(model="gpt-4o-mini").models) == ("demo", ("demo",))
    assert (asked().model, asked().models, asked().plan.name) == (None, ("demo",), "pro")


def test_limits_of_a_user_are_shown_of_a_user_alone() -> None:
    assert MINUTE in asked().shown
    assert asked(user=None).shown == []


def test_what_a_limit_counts_is_named_by_its_scope() -> None:
    assert asked().subject(asked().limit("user-tokens-minute")) == Subject(tenant="acme", user="ada", model="")
    of_a_model = Limit(Scope.USER_MODEL, Unit.TOKENS, 1, Per.DAY)
    assert asked(model="demo").subject(of_a_model) == Subject(tenant="acme", user="ada", model="demo")
    with pytest.raises(click.UsageError, match="name one by --model"):
        asked().subject(of_a_model)
    with pytest.raises(click.UsageError, match="name one by --user"):
        asked(user=None).subject(MINUTE)
