from collections.abc import Callable

import pydantic
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


@pytest.mark.parametrize("name", ["", "x" * 129, "a\\nb", " a", "a ", "\\u0000", "\\u200e"])
def test_a_name_is_short_and_printable(faults: Faults, name: str) -> None:
    assert list(faults(('name = "m"', f'name = "{name}"'))) == ["models[0].name"]


def test_names_of_tables_are_bound_too(faults: Faults) -> None:
    assert faults(more='[plans."a\\tb"]') == {
        'plans."a\tb"': "must be printable and neither begin nor end with a space"
    }


@pytest.mark.parametrize(
    "url", ["r:8000", "ftp://r", "http://", "http://u:p@r", "http://r?x=1", "http://r#x", "http://[", "http://r:99999"]
)
def test_a_replicas_address_is_plain(faults: Faults, url: str) -> None:
    assert list(faults(("http://r:8000", url))) == ["models[0].replicas[0].url"]


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://redis", "redis://:secret@redis", "unix://", "redis://", "redis://r?password=x"]
)
def test_redis_has_an_address_without_a_password(faults: Faults, url: str) -> None:
    assert list(faults(more=f'redis.url = "{url}"')) == ["redis.url"]


def test_a_password_needs_an_address(faults: Faults) -> None:
    assert list(faults(more='redis.password_file = "pw"')) == ["redis.password_file"]


@pytest.mark.parametrize("url", ["redis://redis", "rediss://user@redis:6380/2", "unix:///run/redis.sock"])
def test_redis_addresses(minimal: str, url: str) -> None:
    assert parse(f'{minimal}\nredis.url = "{url}"', {}).redis.url == url


@pytest.mark.parametrize(
    ("issuer", "path"),
    [
        ("algorithms = ['none'], key_file = 'k'", "algorithms[0]"),
        ("algorithms = ['HS256', 'RS256'], key_file = 'k'", "algorithms"),
        ("algorithms = [], key_file = 'k'", "algorithms"),
        ("algorithms = ['RS256']", "key_file"),
        ("key_file = 'k', development = true", "development"),
        ("key_file = 'k', claims.tenant = 'tenant'", "claims.tenant"),
    ],
)
def test_an_issuer_that_would_be_unsafe_is_refused(faults: Faults, issuer: str, path: str) -> None:
    found = faults(('{ issuer = "i", key_file = "i.pem" }', f"{{ issuer = 'i', {issuer} }}"))
    assert list(found) == [f"auth.issuers[0].{path}"]


def test_a_tenant_can_never_be_let_past_the_gateway(faults: Faults) -> None:
    found = faults(('"m",', '"m", extra_fields = ["guided_json", "cache_salt"],'))
    assert "cache_salt" in found["models[0].extra_fields"]


def test_settings_cannot_be_changed(minimal: str) -> None:
    settings = parse(minimal, {})
    with pytest.raises(pydantic.ValidationError):
        settings.listen.port = 1
