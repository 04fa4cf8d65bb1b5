"""What operators see of a fleet's gateways (`proxy.store.membership.registry`), and `tollway gateways forget`."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from policies.quota import Ask, Limit, Per, Scope, Unit
from proxy.cli.main import tollway
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.membership.incarnation import DEAD_AFTER_US, Incarnation
from proxy.store.redis_reservations import RedisReservations
from proxy.store.sweeper import Sweeper
from tests.records import RECORD

LIMITS = (Limit(Scope.USER, Unit.TOKENS, 1_500, Per.DAY),)
ASK = Ask(prompt_tokens=100, choices=1, max_completion=900, min_completion=900, hold_us=5_000_000)


@pytest.fixture(autouse=True)
def _config(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLWAY__REDIS__URL", redis_url)
    monkeypatch.setenv("TOLLWAY__REDIS__TIMEOUT_S", "20.0")


def run(*args: str) -> Result:
    return CliRunner().invoke(tollway, ["gateways", *args])


def listed() -> dict[str, dict[str, Any]]:
    told = orjson.loads(run("list", "--format", "json").stdout)["gateways"]
    return {each["id"]: each for each in told}


def test_a_silent_gateway_is_shown_with_what_it_holds_and_is_forgotten_by_an_operators_word(redis_url: str) -> None:
    redis: Any = Redis.from_url(redis_url, decode_responses=True)

    async def a_sweep() -> tuple[str, int]:
        async with RedisClient(redis_url, deadline_s=20) as connection, Incarnation(connection) as sweeping:
            store = RedisReservations(connection, sweeping)
            if not await connection.call("ZCARD", keys.suspect_index(RECORD.tenant)):
                await store.reserve(RECORD, LIMITS, ASK)
                member = keys.open_member(RECORD.incarnation, RECORD.request_id)
                await connection.call("ZINCRBY", keys.open_index(RECORD.tenant), -2 * DEAD_AFTER_US, member)
            ended = await Sweeper(connection, store).sweep()
            await asyncio.to_thread(while_one_lives, sweeping.id)
            return sweeping.id, ended

    def while_one_lives(incarnation: str) -> None:
        assert listed()[incarnation]["state"] == "alive"
        refused = run("forget", incarnation)
        assert (refused.exit_code, "stop it first" in refused.output) == (1, True)

    sweeping, ended = asyncio.run(a_sweep())
    assert ended == 0
    silent = listed()[RECORD.incarnation]
    assert (silent["state"], silent["suspect_reservations"], silent["suspect_tokens"]) == ("silent", 1, 1_000)
    assert sweeping not in listed(), "it said goodbye"
    assert "1 requests with 1000 tokens are suspect" in run("list").output
    assert run("forget", RECORD.incarnation).exit_code == 0
    assert listed()[RECORD.incarnation]["state"] == "dead"
    assert asyncio.run(a_sweep())[1] == 1
    assert redis.xlen(keys.ledger(RECORD.tenant)) == 1


def test_a_gateway_that_nobody_knows_is_not_forgotten() -> None:
    result = run("forget", "01JB0000000000000000000009")
    assert (result.exit_code, "is known here" in result.output) == (1, True)


def test_a_fleet_without_gateways_says_so(redis_url: str) -> None:
    Redis.from_url(redis_url).delete(keys.INCARNATIONS)
    assert "No gateway" in run("list").output
