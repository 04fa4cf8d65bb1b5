"""A record that comes after everything about its reservation is forgotten is billed once, by the ledger alone."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from policies.quota import Ask, Limit, Per, Scope, Subject, Unit
from proxy.billing.entry import Entry
from proxy.billing.record import ExchangeRecord, Source, correction
from proxy.errors import LedgerUnavailable
from proxy.redis.client import RedisClient
from proxy.store import keys, late_records, ledger
from proxy.store.journal.journal import Journal
from proxy.store.membership.incarnation import Incarnation
from proxy.store.outbox.end import Settle
from proxy.store.outbox.outbox import Outbox
from proxy.store.redis_reservations import RedisReservations
from tests.records import RECORD

LIMITS = (Limit(Scope.USER, Unit.TOKENS, 100_000, Per.DAY),)
SUBJECT = Subject(tenant=RECORD.tenant, user=RECORD.user, model=RECORD.model)
ASK = Ask(prompt_tokens=100, choices=1, max_completion=900, min_completion=256, hold_us=5_000_000)


@pytest.fixture
async def reservations(connection: RedisClient) -> AsyncIterator[RedisReservations]:
    async with Incarnation(connection) as incarnation:
        yield RedisReservations(connection, incarnation)


async def forget(connection: RedisClient) -> None:
    """Let time pass until only the ledger remembers the request."""
    for key in (keys.reservation(RECORD.tenant, RECORD.request_id), keys.late(RECORD.tenant, RECORD.request_id)):
        await connection.call("DEL", key)


async def rows(connection: RedisClient) -> list[tuple[str, object]]:
    return [(entry.kind, entry.record) async for entry in ledger.read(connection, [RECORD.tenant], 0, ledger.NEVER_US)]


async def used(reservations: RedisReservations) -> int:
    [status] = await reservations.statuses(SUBJECT, LIMITS)
    return status.used


async def test_what_the_ledger_does_not_have_is_appended_once_and_moves_no_limit(
    connection: RedisClient, reservations: RedisReservations
) -> None:
    first = await reservations.append_late(RECORD, LIMITS)
    assert first.ours
    await forget(connection)
    again = await reservations.append_late(RECORD, LIMITS)
    assert (again.entry_id, again.ours, again.correction) == (first.entry_id, False, None)
    assert await rows(connection) == [("FINAL", RECORD)]
    assert await used(reservations) == 0


async def test_a_sweepers_row_is_corrected_once(connection: RedisClient, reservations: RedisReservations) -> None:
    swept = RECORD._replace(completion_tokens=4, charge_picos=20_000_000, source=Source.RECOVERED)
    await reservations.reserve(RECORD, LIMITS, ASK)
    await reservations.expire(swept, LIMITS, held=0)
    difference = correction(RECORD, swept)
    for told in (difference, None):
        await forget(connection)
        assert (await reservations.append_late(RECORD, LIMITS)).correction == told
    assert await rows(connection) == [("FINAL", swept), ("CORRECTION", difference)]
    assert await used(reservations) == 124


@pytest.mark.parametrize("swept", [True, False])
async def test_a_reservation_that_is_still_known_is_settled(
    connection: RedisClient, reservations: RedisReservations, *, swept: bool
) -> None:
    await reservations.reserve(RECORD, LIMITS, ASK)
    if swept:
        await reservations.expire(RECORD._replace(completion_tokens=4), LIMITS, held=0)
    settlement = await reservations.append_late(RECORD, LIMITS)
    assert settlement.ours is not swept
    assert await used(reservations) == 131
    assert [kind for kind, _ in await rows(connection)] == (["FINAL", "CORRECTION"] if swept else ["FINAL"])


async def test_a_gateway_that_stood_still_until_its_sweep_was_forgotten_bills_the_difference_only(
    connection: RedisClient, reservations: RedisReservations, tmp_path: Path
) -> None:
    now_us = time.time_ns() // 1_000
    record = RECORD._replace(started_at=now_us - 3 * 3_600_000_000, finished_at=now_us)
    swept = record._replace(completion_tokens=4, charge_picos=20_000_000, source=Source.RECOVERED)
    await reservations.reserve(record, LIMITS, ASK)
    await reservations.expire(swept, LIMITS, held=0)
    await forget(connection)
    told: list[ExchangeRecord] = []
    async with Journal(tmp_path / "journal", "one") as journal:
        outbox = Outbox(reservations, journal, billed=told.append, corrected=told.append, failed=lambda: None)
        assert not await outbox.settle(Settle(record, LIMITS, held=0))
        assert journal.unsettled == 0
    difference = correction(record, swept)
    assert (await rows(connection))[1:] == [("CORRECTION", difference)]
    assert told == [difference]
    assert await used(reservations) == 124


async def test_an_earlier_send_that_was_not_answered_is_ours(
    connection: RedisClient, reservations: RedisReservations
) -> None:
    mine = RECORD._replace(incarnation=reservations.incarnation)
    for record in (mine, RECORD):
        await reservations.append_late(record, LIMITS)
        await forget(connection)
        assert (await reservations.append_late(record, LIMITS)).ours is (record is mine)
        await connection.call("DEL", keys.ledger(RECORD.tenant))
        await forget(connection)


async def test_its_row_is_found_among_many(
    connection: RedisClient, reservations: RedisReservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "BATCH", 3)
    for number in range(10):
        await reservations.settle(RECORD._replace(request_id=f"R{number}"), LIMITS)
    assert not (await late_records.append(connection, RECORD._replace(request_id="R7"), "somebody")).ours
    assert len(await rows(connection)) == 10


async def test_two_at_once_append_one_row(connection: RedisClient) -> None:
    answers = await asyncio.gather(
        *(late_records.append(connection, RECORD, f"gateway-{number}") for number in range(5)), return_exceptions=True
    )
    assert sum(not isinstance(answer, LedgerUnavailable) for answer in answers) == 1
    assert await rows(connection) == [("FINAL", RECORD)]


async def test_who_lost_the_right_while_it_looked_appends_nothing(
    connection: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, read = keys.late(RECORD.tenant, RECORD.request_id), ledger.read

    async def slow(*args: object, **named: object) -> AsyncIterator[Entry]:
        async for entry in read(*args, **named):  # type: ignore[arg-type]
            yield entry
        await connection.call("SET", guard, "another")

    monkeypatch.setattr(ledger, "read", slow)
    with pytest.raises(LedgerUnavailable):
        await late_records.append(connection, RECORD, "slow")
    assert await rows(connection) == []
