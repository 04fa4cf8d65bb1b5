"""
The next version beside this one: each leaves to the other what only that may touch, tells it, and loses nothing.

What stands in for the next one differs by the number alone.
"""

import asyncio
from pathlib import Path

import pytest

from policies.quota import WHOLE, Ask, Limit, Per, Scope, Unit
from proxy import versions
from proxy.billing.query import Period, UsageQuery, answer
from proxy.errors import LedgerUnavailable
from proxy.redis.client import RedisClient
from proxy.store import keys, ledger
from proxy.store.journal.failure import Failure
from proxy.store.journal.journal import Journal
from proxy.store.ledger_rows import LedgerRows
from proxy.store.outbox.end import Settle, written
from proxy.store.outbox.outbox import Outbox
from tests.bare_gateway import bare_gateway, dies, exchange, newer, reserved

FEW = (
    Limit(Scope.USER, Unit.TOKENS, 100_000, Per.DAY),
    Limit(Scope.TENANT, Unit.REQUESTS, 1_000, Per.MONTH),
    Limit(Scope.USER, Unit.CONCURRENT, 64, None),
)
SUBJECT = {"tenant": "acme", "user": "ada", "model": "demo"}


async def test_a_reservation_tells_its_version_from_its_beginning_to_each_of_its_ends(
    connection: RedisClient, tmp_path: Path
) -> None:
    async with bare_gateway(connection, tmp_path) as gateway:
        store, ask = gateway.store, Ask(prompt_tokens=1, choices=1, max_completion=1, min_completion=1, hold_us=1)
        told = dict.fromkeys(("settled", "released", "never-reserved", "expired", "corrected", "returned"), "")
        records = {name: exchange(gateway, name) for name in told}
        for name in records.keys() - {"never-reserved"}:
            await store.reserve(records[name], FEW, ask)
            text = await connection.call("GET", keys.reservation("acme", name))
            assert text.partition("\n")[0].endswith(f" v{versions.WRITTEN}")
        for name in ("expired", "corrected", "returned"):
            await store.expire(records[name], FEW, held=WHOLE)
        for name in ("settled", "never-reserved", "corrected"):
            await store.settle(records[name], FEW)
        for name in ("released", "returned"):
            await store.release(records[name], FEW)
        for name in told:
            told[name] = await connection.call("GET", keys.reservation("acme", name))
        assert [name for name, text in told.items() if not text.endswith(f"\nv{versions.WRITTEN}")] == []


async def test_an_older_gateway_leaves_what_a_newer_one_reserved_to_a_newer_one(
    connection: RedisClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bare_gateway(connection, tmp_path) as older, bare_gateway(connection, tmp_path / "next") as next_one:
        with newer():
            record = await reserved(next_one, "of-the-next", FEW)
        await dies(next_one)
        assert await older.sweeper.sweep() == 0
        assert [line.message for line in caplog.records] == ["draft_unreadable"]
        for step in (
            older.store.settle(record, FEW),
            older.store.release(record, FEW),
            older.store.trim(record, FEW, 1),
        ):
            with pytest.raises(LedgerUnavailable):
                await step
        assert await older.rows() == []
        assert await connection.call("ZCARD", keys.open_index("acme")) == 1
        async with bare_gateway(connection, tmp_path / "another") as another:
            with newer():
                assert await another.sweeper.sweep() == 1
                ((kind, row),) = await another.rows()
        assert (kind, row.prompt_tokens, row.completion_tokens) == ("FINAL", 90, 40)
        assert await older.used(SUBJECT, FEW) == [130, 1, 0]


async def test_a_newer_gateway_sweeps_an_older_ones_and_what_that_knows_better_waits_for_a_newer_one(
    connection: RedisClient, tmp_path: Path
) -> None:
    subject = SUBJECT
    async with bare_gateway(connection, tmp_path / "next") as next_one:
        async with bare_gateway(connection, tmp_path) as older, older.replaying():
            record = await reserved(older, "of-the-older", FEW)
            await dies(older)
            with newer():
                assert await next_one.sweeper.sweep() == 1
            outbox = Outbox(
                older.store, older.journal, billed=lambda _: None, corrected=lambda _: None, failed=lambda: None
            )
            assert not await outbox.settle(Settle(record, FEW, held=0))
            assert older.journal.owed == 1
            assert await older.used(subject, FEW) == [130, 1, 0]
        with newer():
            async with bare_gateway(connection, tmp_path) as upgraded, upgraded.replaying():
                assert (upgraded.journal.unsettled, upgraded.corrected) == (0, ["of-the-older"])
                assert [kind for kind, _ in await upgraded.rows()] == ["FINAL", "CORRECTION"]
                used = record.prompt_tokens + record.completion_tokens
                assert await upgraded.used(subject, FEW) == [used, 1, 0]


async def test_an_older_gateway_leaves_a_newer_ones_log_as_it_is(
    connection: RedisClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with newer():
        async with bare_gateway(connection, tmp_path) as next_one:
            end = Settle(exchange(next_one, "of-the-next"), FEW, held=0)
            next_one.journal.owe(await next_one.journal.append(written(end)))
    (log,) = (tmp_path / "journal").glob("*/*.wal")
    was = log.read_bytes()
    failures: list[Failure] = []
    async with Journal(tmp_path / "journal", "older", failed=failures.append) as journal:
        assert await journal.adopt() + await journal.adopt() == 0
        await asyncio.sleep(0)
        assert (failures, [line.message for line in caplog.records]) == ([Failure.NEWER], ["journal_newer"])
        assert log.read_bytes() == was
        with newer():
            async with bare_gateway(connection, tmp_path) as upgraded, upgraded.replaying():
                assert upgraded.billed == ["of-the-next"]
    assert not log.exists() or log.read_bytes() == was


async def test_an_older_gateway_tells_a_newer_ones_rows_and_bills_none_of_them_again(
    connection: RedisClient, tmp_path: Path
) -> None:
    async with bare_gateway(connection, tmp_path) as older, bare_gateway(connection, tmp_path / "next") as next_one:
        record = exchange(next_one, "of-the-next")._replace(started_at=0)
        with newer():
            assert (await next_one.store.settle(record, FEW)).ours
        await connection.call("DEL", keys.reservation(record.tenant, record.request_id))
        with pytest.raises(LedgerUnavailable):
            await older.store.append_late(record, FEW)
        query = UsageQuery(period=Period(0, ledger.NEVER_US))
        report = await answer(query, LedgerRows(connection))
        assert (report.unreadable.count, list(report.rows())) == (1, [])
        with newer():
            assert len(await next_one.rows()) == 1
