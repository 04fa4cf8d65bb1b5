"""`tollway quota` on a real Redis: what it shows is what holds, and what it gives is there for the next request."""

import asyncio
import getpass
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from policies.quota import Ask, Granted, Limit, Per, Refused, Repeated, Scope, Unit
from proxy.cli.main import tollway
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.membership.incarnation import Incarnation
from proxy.store.redis_reservations import RedisReservations
from tests.records import RECORD

CONFIG = """
auth.issuers = [{ issuer = "dev", algorithms = ["HS256"], development = true }]
models = [
    { name = "demo", aliases = ["d"], context_tokens = 100, replicas = [{ name = "r", url = "http://r" }] },
    { name = "other", context_tokens = 100, replicas = [{ name = "o", url = "http://o" }] },
]
tenants.acme.plans = ["pro"]

[plans.pro]
limits = [
    { scope = "user", unit = "tokens", amount = 1_000, per = "month" },
    { scope = "tenant", unit = "requests", amount = 3, per = "month" },
    { scope = "user", unit = "tokens", amount = 1_000, per = "hour" },
    { scope = "user_model", unit = "tokens", amount = 1_500, per = "month" },
    { scope = "user", unit = "concurrent", amount = 9 },
]
"""
LIMITS = (
    Limit(Scope.USER, Unit.TOKENS, 1_000, Per.MONTH),
    Limit(Scope.TENANT, Unit.REQUESTS, 3, Per.MONTH),
    Limit(Scope.USER, Unit.TOKENS, 1_000, Per.HOUR),
    Limit(Scope.USER_MODEL, Unit.TOKENS, 1_500, Per.MONTH),
    Limit(Scope.USER, Unit.CONCURRENT, 9, None),
)
HOUR = ("user-tokens-hour", None)
ADA = ("--tenant", "acme", "--user", "ada")


@pytest.fixture(autouse=True)
def _config(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "tollway.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLWAY__REDIS__URL", redis_url)
    monkeypatch.setenv("TOLLWAY__REDIS__TIMEOUT_S", "20.0")
    root = logging.root.handlers[:]
    yield
    logging.root.handlers = root


def run(*args: str) -> Result:
    result = CliRunner().invoke(tollway, ["quota", *args])
    assert result.exit_code == 0, result.output
    return result


def shown(*args: str) -> dict[tuple[str, str | None], dict[str, Any]]:
    lines = orjson.loads(run("show", *args, "--format", "json").stdout)["limits"]
    return {(line["name"], line["model"]): line for line in lines}


def given(*args: str) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads(run(*args, "--format", "json").stdout)
    return answer


def asked(redis_url: str, number: int, tokens: int, *, settles: int | None = None) -> Granted | Refused | Repeated:
    """Reserve so many tokens as ada, and settle so many of them."""

    async def ask() -> Granted | Refused | Repeated:
        async with RedisClient(redis_url, deadline_s=20) as connection, Incarnation(connection) as incarnation:
            store = RedisReservations(connection, incarnation)
            record = RECORD._replace(request_id=f"R{number}", prompt_tokens=settles or 0, completion_tokens=0)
            decision = await store.reserve(record, LIMITS, Ask(tokens, 1, 0, 0, 60_000_000))
            if settles is not None:
                await store.settle(record, LIMITS)
            return decision

    return asyncio.run(ask())


def test_what_holds_is_shown(redis_url: str) -> None:
    asked(redis_url, 1, 400, settles=300)
    lines = shown(*ADA)
    hour = lines[HOUR]
    assert (hour["limit"], hour["remaining"]) == (1_000, 1_000 - hour["used"])
    assert 280 < hour["used"] <= 300, "it refills by a token every 3.6 seconds"
    assert {name: (line["limit"], line["used"], line["remaining"]) for name, line in lines.items() if name != HOUR} == {
        ("user-tokens-month", None): (1_000, 300, 700),
        ("tenant-requests-month", None): (3, 1, 2),
        ("user-concurrent", None): (9, 0, 9),
        ("user_model-tokens-month", "demo"): (1_500, 300, 1_200),
        ("user_model-tokens-month", "other"): (1_500, 0, 1_500),
    }
    assert set(shown(*ADA, "--model", "d")) == {name for name in lines if name[1] != "other"}
    assert set(shown("--tenant", "acme")) == {("tenant-requests-month", None)}
    table = run("show", *ADA).stdout
    assert any(line.split()[:4] == ["user-tokens-month", "1,000", "300", "700"] for line in table.splitlines())


def test_a_grant_is_there_for_the_next_request_and_ends_with_its_window(redis_url: str) -> None:
    limit = ("--limit", "user-tokens-month", "--amount", "600")
    asked(redis_url, 1, 900, settles=900)
    refused = asked(redis_url, 2, 500)
    assert isinstance(refused, Refused)
    assert refused.limit.name == "user-tokens-month"
    run("reset", *ADA, "--limit", "user-tokens-hour")
    run("reset", *ADA, "--limit", "user_model-tokens-month", "--model", "demo")
    answer = given("grant", *ADA, *limit)
    assert (answer["given"], answer["used"], answer["remaining"]) == (600, 300, 700)
    assert isinstance(asked(redis_url, 2, 500, settles=500), Granted)
    assert shown(*ADA)["user-tokens-month", None]["remaining"] == 200
    answer = given("grant", *ADA, *limit[:3], "5000")
    assert (answer["used"], answer["remaining"], answer["limit"]) == (0, 5_200, 1_000)
    with Redis.from_url(redis_url) as client:
        counters = list(client.scan_iter("*:used:user:*"))
        assert counters
        assert all(0 < client.pttl(key) < 32 * 86_400_000 for key in counters)


def test_a_reset_gives_back_all_that_is_used_and_what_is_in_flight_comes_on_top(redis_url: str) -> None:
    asked(redis_url, 1, 400)
    asked(redis_url, 2, 300, settles=300)
    answer = given("reset", *ADA, "--limit", "user-tokens-month")
    assert (answer["given"], answer["remaining"]) == (700, 1_000)
    asked(redis_url, 1, 400, settles=150)
    assert shown(*ADA)["user-tokens-month", None]["remaining"] == 1_250
    answer = given("reset", "--tenant", "acme", "--limit", "tenant-requests-month")
    assert (answer["given"], answer["remaining"], answer["model"]) == (2, 3, None)


def test_a_pace_is_full_at_most(redis_url: str) -> None:
    asked(redis_url, 1, 900, settles=900)
    answer = given("grant", *ADA, "--limit", "user-tokens-hour", "--amount", "99999")
    assert answer["remaining"] == 1_000
    assert 890 <= answer["given"] <= 900


def test_who_gave_what_is_a_line_of_the_log(redis_url: str) -> None:
    asked(redis_url, 1, 400)
    for args, event, amount, model in (
        (("grant", *ADA, "--limit", "user-tokens-month", "--amount", "70"), "quota_granted", 70, None),
        (("reset", *ADA, "--limit", "user_model-tokens-month", "--model", "d"), "quota_reset", 400, "demo"),
    ):
        result = run(*args)
        line = orjson.loads(result.stderr)
        expected = {"tenant": "acme", "user": "ada", "limit": args[6], "amount": amount, "operator": getpass.getuser()}
        assert expected | ({"model": model} if model else {}) == {
            name: value for name, value in line.items() if name not in ("time", "level", "event", "logger")
        }
        assert line["event"] == event
        assert f"{amount} tokens given" in result.stdout


def test_a_limit_of_a_model_asks_for_one() -> None:
    args = ["quota", "reset", *ADA, "--limit", "user_model-tokens-month"]
    result = CliRunner().invoke(tollway, args)
    assert (result.exit_code, "name one by --model" in result.output) == (2, True)


def test_a_grant_is_kept_by_its_id_for_an_hour(redis_url: str) -> None:
    run("grant", *ADA, "--limit", "user-tokens-month", "--amount", "70")
    with Redis.from_url(redis_url) as client:
        [key] = client.keys(keys.grant("acme", "").removesuffix("%") + "*")
        assert 0 < client.pttl(key) <= 3_600_000
