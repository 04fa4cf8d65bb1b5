"""What was settled in a real Redis is what `tollway usage` reports, in every format."""

import asyncio
import csv
import io
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

import orjson
import pytest
from click.testing import CliRunner
from redis import Redis

from policies.pricing import Price
from policies.quota import Ask
from proxy.billing.charging import charged
from proxy.billing.record import ExchangeRecord
from proxy.cli.main import tollway
from proxy.cli.usage import _Progress
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.ledger import BATCH
from proxy.store.membership.incarnation import Incarnation
from proxy.store.redis_reservations import RedisReservations
from proxy.store.reservations import AlreadyEnded
from tests.records import RECORD

ASK = Ask(prompt_tokens=200, choices=1, max_completion=100, min_completion=1, hold_us=1_000_000)
BEFORE, AFTER = "2000-01-01", "2100-01-01"
"""No day of today's: a suite may run over midnight."""


def settle(redis_url: str, records: Iterable[ExchangeRecord]) -> None:
    async def settled() -> None:
        async with RedisClient(redis_url, deadline_s=20) as connection, Incarnation(connection) as incarnation:
            reservations = RedisReservations(connection, incarnation)
            for record in records:
                with suppress(AlreadyEnded):
                    await reservations.reserve(record, (), ASK)
                await reservations.settle(record, ())

    asyncio.run(settled())


def exchanges() -> list[ExchangeRecord]:
    """Return three tenants' exchanges, one of them with a name that every layer must carry unharmed."""
    users = {"acme": ("ada", "bob"), "globex": ("ada",), "=1+1 {x}": ("é|:%",)}
    return [
        RECORD._replace(request_id=f"{number:026}", tenant=tenant, user=user, charge_picos=(100 + number) * 1_000_000)
        for number, (tenant, user) in enumerate((tenant, user) for tenant, of in users.items() for user in of)
    ]


@pytest.fixture
def usage(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("TOLLWAY__REDIS__URL", redis_url)
    monkeypatch.setenv("TOLLWAY__REDIS__TIMEOUT_S", "20.0")
    return CliRunner()


def report(usage: CliRunner, *args: str) -> str:
    result = usage.invoke(tollway, ["usage", "--from", BEFORE, "--to", AFTER, *args])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_has_every_settled_exchange_once(redis_url: str, usage: CliRunner) -> None:
    settle(redis_url, exchanges() * 2)  # a settle repeated bills nothing more
    told = orjson.loads(report(usage, "--format", "json", "--group-by", "tenant"))
    charges = {row["tenant"]: (row["requests"], row["charge"]) for row in told["rows"]}
    assert charges == {"acme": (2, "0.000201"), "globex": (1, "0.000102"), "=1+1 {x}": (1, "0.000103")}
    [total] = told["totals"]
    assert total["prompt_tokens"] == 4 * RECORD.prompt_tokens
    assert total["charge"] == "0.000406"


def test_what_costs_less_than_a_millionth_is_billed(redis_url: str, usage: CliRunner) -> None:
    price = Price(version="1", currency="USD", prompt=20_000, cached=0, completion=0)
    two_tokens = charged(RECORD._replace(prompt_tokens=2, cached_tokens=0, completion_tokens=0), price)
    settle(redis_url, [two_tokens._replace(request_id=f"{number:026}") for number in range(40)])
    [row] = orjson.loads(report(usage, "--format", "json", "--group-by", "tenant"))["rows"]
    assert (row["requests"], row["charge"]) == (40, "0.0000016")


def test_csv_and_table_tell_the_same(redis_url: str, usage: CliRunner) -> None:
    settle(redis_url, exchanges())
    rows = list(csv.DictReader(io.StringIO(report(usage, "--format", "csv"))))
    assert [(row["tenant"], row["user"]) for row in rows] == [
        ("'=1+1 {x}", "é|:%"),
        ("acme", "ada"),
        ("acme", "bob"),
        ("globex", "ada"),
    ]
    total = report(usage).splitlines()[-2].split()
    assert total == ["total", "4", "480", "128", "44", "0.000406", "USD"]


def test_the_end_of_the_period_is_left_out(redis_url: str, usage: CliRunner) -> None:
    settle(redis_url, exchanges()[:1])
    time.sleep(0.002)  # streams know milliseconds
    between = datetime.now(UTC).isoformat()
    time.sleep(0.002)
    settle(redis_url, exchanges()[1:2])

    def users(*period: str) -> list[str]:
        result = usage.invoke(tollway, ["usage", *period, "--format", "json"])
        return [row["user"] for row in orjson.loads(result.stdout)["rows"]]

    assert users("--from", BEFORE, "--to", between) == ["ada"]
    assert users("--from", between, "--to", AFTER) == ["bob"]


def test_an_empty_ledger_is_an_empty_report(usage: CliRunner) -> None:
    assert "none." in report(usage)
    assert orjson.loads(report(usage, "--format", "json"))["rows"] == []


def test_more_than_a_batch_is_read_to_its_end(redis_url: str, usage: CliRunner) -> None:
    settle(redis_url, (RECORD._replace(request_id=f"{number:026}") for number in range(BATCH + 1)))
    told = orjson.loads(report(usage, "--format", "json"))
    assert told["totals"][0]["requests"] == BATCH + 1


def test_progress_is_told_only_when_it_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    progress = _Progress()
    progress.step()
    progress.end()
    assert capsys.readouterr() == ("", "")
    progress._told_at -= 60
    progress.step()
    progress.end()
    assert capsys.readouterr() == ("", "\r2 rows read\r2 rows read\n")


def test_a_row_of_another_version_costs_no_other_and_is_told(redis_url: str, usage: CliRunner) -> None:
    settle(redis_url, exchanges())
    with Redis.from_url(redis_url) as client:
        client.xadd(keys.ledger("acme"), {"kind": "FINAL", "request_id": "old"})
    result = usage.invoke(tollway, ["usage", "--from", BEFORE, "--to", AFTER, "--format", "json"])
    assert result.exit_code == 1
    assert "lacks 1 rows" in result.stderr
    assert "of tenant 'acme'" in result.stderr
    assert len(orjson.loads(result.stdout)["rows"]) == 4
