"""
An upgrade: what the version before left is settled, swept and told exactly.

What was recorded is what gateways of older commits left, with what another of them made of it.
"""

import logging
from pathlib import Path
from typing import Any

import pytest

from policies.quota import PERIOD_US, Ask, Granted, Repeated
from proxy.billing.query import Period, UsageQuery, answer
from proxy.billing.record import ExchangeRecord, Source
from proxy.identity.revocation import RevocationKind
from proxy.redis.client import RedisClient
from proxy.store import keys, ledger
from proxy.store.ledger_rows import LedgerRows
from proxy.store.revocations import revocations
from tests import recorded_versions
from tests.bare_gateway import BareGateway, bare_gateway
from tests.records import RECORD

LIMITS = recorded_versions.expected(recorded_versions.COMMITS[-1])["limits"]
FEW, ALL = (recorded_versions.limits(LIMITS[name]) for name in ("few", "all"))


@pytest.fixture(params=recorded_versions.COMMITS)
def commit(request: pytest.FixtureRequest) -> str:
    """Tell whose texts are read."""
    return str(request.param)


@pytest.fixture
def recorded(commit: str) -> dict[str, Any]:
    """Give what its own heir made of them."""
    return recorded_versions.expected(commit)


@pytest.fixture
def moved_us(redis_url: str, tmp_path: Path, commit: str) -> int:
    """Put what was recorded into Redis and onto the disk; tell how far it was moved in time."""
    recorded_versions.log_in(tmp_path, commit)
    # Another start finds the log by the name of whose it is, which proves that it is dead.
    (tmp_path / "journal" / "of-the-dead").rename(tmp_path / "journal" / recorded_versions.expected(commit)["dead"])
    (tmp_path / "epoch").write_bytes((recorded_versions.recorded(commit) / "epoch").read_bytes())
    return recorded_versions.restore(redis_url, commit)


def told(kind: str, record: ExchangeRecord) -> tuple[Any, ...]:
    """Return what two heirs tell alike of a row: all but when they swept."""
    recovered = record.source is Source.RECOVERED
    return kind, record.request_id, record.finished_at * (not recovered), record._replace(finished_at=0)


def in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=lambda row: row[:3])


async def check_used(gateway: BareGateway, recorded: dict[str, Any], moved_us: int) -> None:
    """Compare what is used of every limit with what the recorded heir said; rates refill for some seconds more."""
    now_us = int((await gateway.connection.call("TIME"))[0]) * 1_000_000
    apart_us = abs(now_us - moved_us - recorded["used_at_us"]) + 2_000_000
    for subject, name, used in recorded["used"]:
        plan = {"few": FEW, "all": ALL}[name]
        for limit, then, now in zip(plan, used, await gateway.used(subject, plan), strict=True):
            refilled = limit.amount * apart_us // PERIOD_US[limit.per] + 1 if limit.per in PERIOD_US else 0
            assert abs(now - then) <= min(refilled, 1_000), (subject, limit)


async def test_what_was_left_is_settled_swept_and_billed_as_its_own_version_does(
    connection: RedisClient, recorded: dict[str, Any], moved_us: int, tmp_path: Path
) -> None:
    async with bare_gateway(connection, tmp_path) as gateway, gateway.replaying():
        assert await gateway.sweeper.sweep() == recorded["swept"] == 6
        rows = [told(*row) for row in await gateway.rows()]
        expected = [told(kind, recorded_versions.record_of(record)) for kind, record in recorded["rows"]]
        assert in_order(rows) == in_order(expected)
        await check_used(gateway, recorded, moved_us)
        assert (sorted(gateway.billed), gateway.corrected) == (["owed", "owed-never-reserved"], ["expired"])
        assert (gateway.journal.unsettled, gateway.journal.owed) == (0, 0)


async def test_all_of_it_is_sent_and_swept_again_without_a_change(
    connection: RedisClient, commit: str, moved_us: int, tmp_path: Path
) -> None:
    recorded = recorded_versions.expected(commit)
    async with bare_gateway(connection, tmp_path) as first, first.replaying():
        await first.sweeper.sweep()
        rows = await first.rows()
    for request_id in ("never-reserved", "owed-never-reserved"):
        # The right to append, which is used up, expires in a minute.
        assert await connection.call("DEL", keys.late("acme", request_id))
    recorded_versions.log_in(tmp_path / "again", commit)
    (tmp_path / "again" / "epoch").write_text("01JC0LDER00000000000000000\n")
    async with bare_gateway(connection, tmp_path / "again") as second, second.replaying():
        assert second.journal.unsettled == 0
        assert await second.sweeper.sweep() == 0
        assert await second.rows() == rows
        assert (second.billed, second.corrected) == ([], [])
        await check_used(second, recorded, moved_us)


async def test_it_is_reported(connection: RedisClient, moved_us: int, tmp_path: Path) -> None:
    async with bare_gateway(connection, tmp_path) as gateway, gateway.replaying():
        await gateway.sweeper.sweep()
        query = UsageQuery(period=Period(0, ledger.NEVER_US), group_by=("tenant",))
        report = await answer(query, LedgerRows(connection))
    sums = {(*row.names, row.currency): row.sums for row in report.rows()}
    counted = {names: (each.requests, each.prompt_tokens, each.completion_tokens) for names, each in sums.items()}
    assert counted == {("acme", ""): (1, 0, 0), ("acme", "USD"): (12, 740, 288), ("odd {tenant}/ü%", "USD"): (1, 0, 0)}
    assert sums["acme", "USD"].charge_picos == 4_298_000_000


async def test_who_runs_on_beside_it_is_left_alone_and_its_reservation_may_be_ended_here(
    connection: RedisClient, recorded: dict[str, Any], moved_us: int, tmp_path: Path
) -> None:
    async with bare_gateway(connection, tmp_path) as gateway, gateway.replaying():
        await gateway.sweeper.sweep()
        member = keys.open_member(recorded["living"], "of-the-living")
        assert await connection.call("ZRANGE", keys.open_index("acme"), 0, -1) == [member]
        subject, _, before = recorded["used"][0]
        record = RECORD._replace(request_id="of-the-living", incarnation=recorded["living"], charge_picos=0)
        assert (await gateway.store.settle(record, FEW)).ours
        used = RECORD.prompt_tokens + RECORD.completion_tokens
        assert await gateway.used(subject, FEW) == [before[0] - 1_000 + used, before[1], 0]


async def test_a_clients_own_keys_are_remembered_and_a_release_frees_them(
    connection: RedisClient, recorded: dict[str, Any], moved_us: int, tmp_path: Path
) -> None:
    async with bare_gateway(connection, tmp_path) as gateway:
        subject = recorded["used"][2][0]
        ask = Ask(prompt_tokens=1, choices=1, max_completion=1, min_completion=1, hold_us=1)
        odd = RECORD._replace(**subject, request_id="odd-names", incarnation=recorded["dead"])
        other = odd._replace(request_id="another")
        repeated = await gateway.store.reserve(other, FEW, ask, once="a key / ü")
        assert repeated == Repeated("odd-names")
        await gateway.store.release(odd, ALL)
        assert await gateway.used(subject, ALL) == [0] * len(ALL)
        assert isinstance(await gateway.store.reserve(other, FEW, ask, once="a key / ü"), Granted)


async def test_what_was_revoked_is_revoked(connection: RedisClient, moved_us: int) -> None:
    found = {str(each.subject): each.until_us for each in await revocations(connection)}
    assert found == {
        "jti:https%3A%2F%2Fissuer/t%2F1": 4_102_444_800_000_000,
        "tenant:odd%20%7Btenant%7D": 4_102_444_800_000_000,
        "user:acme/eve": None,
    }


async def test_a_kind_of_revocation_that_a_newer_version_has_is_told_and_hides_no_other(
    connection: RedisClient, moved_us: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    await connection.call("HSET", keys.REVOKED, "issuer:https%3A%2F%2Fissuer", "1796033329916181 0")
    await connection.call("HSET", keys.REVOKED, "user:acme/bob", "1796033329916181 0 and more")
    found = [each.subject for each in await revocations(connection)]
    assert len(found) == 4
    assert {subject.name for subject in found if subject.kind is RevocationKind.USER} == {"eve", "bob"}
    assert [line.message for line in caplog.records] == ["revocation_unreadable"]
