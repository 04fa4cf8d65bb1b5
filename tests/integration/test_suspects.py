"""A gateway that nobody hears of may serve still: what windows hold for it is kept until it is known how that ended."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from policies.quota import Ask, Limit, Per, Refused, Scope, Subject, Unit
from proxy.billing.entry import Entry
from proxy.billing.record import COUNTED, Source, correction
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.journal.journal import Journal
from proxy.store.ledger import read
from proxy.store.membership.incarnation import DEAD_AFTER_US, Incarnation, dead, proven_dead
from proxy.store.outbox.replay import Replay
from proxy.store.redis_reservations import LATE_US_MAX, RedisReservations
from proxy.store.suspects import HeldInSilence, held_of
from proxy.store.sweeper import Sweeper
from tests.records import RECORD

DAY = Limit(Scope.USER, Unit.TOKENS, 1_500, Per.DAY)
LIMITS = (
    DAY,
    Limit(Scope.TENANT, Unit.REQUESTS, 100, Per.DAY),
    Limit(Scope.USER, Unit.CONCURRENT, 1, None),
    Limit(Scope.USER, Unit.TOKENS, 5_000, Per.HOUR),
)
SUBJECT = Subject(tenant=RECORD.tenant, user=RECORD.user, model=RECORD.model)
ASK = Ask(prompt_tokens=100, choices=1, max_completion=900, min_completion=900, hold_us=5_000_000)
LASTS_S = 120
NOTED = RECORD._replace(prompt_tokens=90, completion_tokens=40)
TRUTH = RECORD._replace(prompt_tokens=90, completion_tokens=700)
NEVER_SEEN = "01JB0000000000000000000001"
INDEX = keys.suspect_index(RECORD.tenant)


@pytest.fixture
async def reservations(connection: RedisClient) -> AsyncIterator[RedisReservations]:
    async with Incarnation(connection) as living:
        yield RedisReservations(connection, living)


@pytest.fixture
def sweeper(connection: RedisClient, reservations: RedisReservations) -> Sweeper:
    return Sweeper(connection, reservations)


async def cut_off(connection: RedisClient, store: RedisReservations, *, noted: bool = True) -> None:
    """Let a gateway reserve, note how far it came, and then be cut from Redis for longer than its heartbeat."""
    await store.reserve(RECORD, LIMITS, ASK, lasts_s=LASTS_S)
    if noted:
        await store.progress(NOTED)
    member = keys.open_member(RECORD.incarnation, RECORD.request_id)
    await connection.call("ZINCRBY", keys.open_index(RECORD.tenant), -2 * DEAD_AFTER_US, member)


async def pass_by(connection: RedisClient, us: int) -> None:
    """Let so much time pass for what is suspect."""
    await connection.call("ZINCRBY", INDEX, -us, keys.open_member(RECORD.incarnation, RECORD.request_id))


async def used(store: RedisReservations) -> dict[str, int]:
    return {status.limit.name: status.used for status in await store.statuses(SUBJECT, LIMITS)}


async def ledger(connection: RedisClient) -> list[Entry]:
    return [entry async for entry in read(connection, [RECORD.tenant], 0, 2**52)]


async def test_windows_keep_what_a_silent_gateway_may_use_still_and_the_rest_comes_back(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    await cut_off(connection, reservations)
    for _ in range(3):
        assert await sweeper.sweep() == 0
        told = await used(reservations)
        assert (told["user-tokens-day"], told["tenant-requests-day"], told["user-concurrent"]) == (1_000, 1, 0)
        assert told["user-tokens-hour"] <= 130
    other = RECORD._replace(request_id="other")
    refused = await reservations.reserve(other, LIMITS, ASK)
    assert isinstance(refused, Refused)
    assert refused.limit == DAY
    assert await ledger(connection) == []
    assert await connection.call("ZCARD", keys.open_index(RECORD.tenant)) == 0


async def test_its_own_settle_is_the_bill_and_moves_each_limit_to_the_truth(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    await cut_off(connection, reservations)
    await sweeper.sweep()
    for _ in range(2):
        assert (await reservations.settle(TRUTH, LIMITS)).ours
    [entry] = await ledger(connection)
    assert (entry.kind, entry.record) == ("FINAL", TRUTH)
    told = await used(reservations)
    assert (told["user-tokens-day"], told["user-concurrent"]) == (790, 0)
    assert 780 <= told["user-tokens-hour"] <= 790
    assert await connection.call("EXISTS", INDEX) == 0
    assert await sweeper.sweep() == 0


async def test_its_own_release_gives_everything_back(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    await cut_off(connection, reservations, noted=False)
    await sweeper.sweep()
    for _ in range(2):
        await reservations.release(RECORD, LIMITS)
        assert set((await used(reservations)).values()) == {0}
    assert await connection.call("EXISTS", INDEX) == 0
    assert await ledger(connection) == []


async def test_who_beats_again_goes_on_and_notes_its_progress(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    async with Incarnation(connection) as other:
        mine = RECORD._replace(incarnation=other.id)
        await reservations.reserve(mine, LIMITS, ASK, lasts_s=LASTS_S)
        index, member = keys.open_index(RECORD.tenant), keys.open_member(other.id, RECORD.request_id)
        await connection.call("ZINCRBY", index, -2 * DEAD_AFTER_US, member)
        await connection.call("ZREM", keys.INCARNATIONS, other.id)
        await sweeper.sweep()
        await other.beat()
        await reservations.progress(mine._replace(prompt_tokens=90, completion_tokens=500))
        await connection.call("ZINCRBY", INDEX, -LASTS_S * 10_000_000, member)
        assert await sweeper.sweep() == 0, "its deadline is its own affair while it lives"
        assert (await used(reservations))["user-tokens-day"] == 1_000
        await connection.call("ZREM", keys.INCARNATIONS, other.id)
        assert await sweeper.sweep() == 1
    [entry] = await ledger(connection)
    assert entry.record.completion_tokens == 500


@pytest.mark.parametrize("noted", [True, False])
async def test_a_death_that_is_proven_ends_what_is_suspect(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper, *, noted: bool
) -> None:
    await cut_off(connection, reservations, noted=noted)
    await sweeper.sweep()
    await proven_dead(connection, [RECORD.incarnation])
    assert await sweeper.sweep() == 1
    [entry] = await ledger(connection)
    assert (entry.record.source, entry.record.completion_tokens) == (Source.RECOVERED, 40 if noted else 0)
    assert (await used(reservations))["user-tokens-day"] == (130 if noted else 1_000)
    assert await connection.call("EXISTS", INDEX) == 0
    assert await sweeper.sweep() == 0


async def test_the_exchanges_own_deadline_ends_what_is_suspect_and_a_later_truth_corrects_it(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    await cut_off(connection, reservations)
    await sweeper.sweep()
    score = float(await connection.call("ZSCORE", INDEX, keys.open_member(RECORD.incarnation, RECORD.request_id)))
    now_us = int((await connection.call("TIME"))[0]) * 1_000_000
    assert abs(score - now_us - LASTS_S * 1_000_000 - LATE_US_MAX + 2 * DEAD_AFTER_US) < 5_000_000
    await pass_by(connection, (LASTS_S - 30) * 1_000_000)
    assert await sweeper.sweep() == 0
    await pass_by(connection, 30 * 1_000_000 + LATE_US_MAX)
    assert await sweeper.sweep() == 1
    assert (await used(reservations))["user-tokens-day"] == 130
    [final] = await ledger(connection)
    settlement = await reservations.settle(TRUTH, LIMITS)
    assert settlement.correction == correction(TRUTH, final.record)
    rows = await ledger(connection)
    for name in COUNTED:
        assert sum(getattr(row.record, name) for row in rows) == getattr(TRUTH, name)
    assert (await used(reservations))["user-tokens-day"] == 790


async def test_many_are_suspected_and_ended_whatever_their_number(
    connection: RedisClient, reservations: RedisReservations
) -> None:
    free = (Limit(Scope.USER, Unit.TOKENS, 10_000_000, Per.DAY),)
    found: list[HeldInSilence] = []
    for number in range(150):
        record = RECORD._replace(request_id=f"R{number}")
        await reservations.reserve(record, free, ASK)
        member = keys.open_member(record.incarnation, record.request_id)
        await connection.call("ZINCRBY", keys.open_index(RECORD.tenant), -2 * DEAD_AFTER_US, member)
    async with Sweeper(connection, reservations, suspect=found.append, sweep_s=0.05):
        async with asyncio.timeout(20):
            while HeldInSilence(150, 150_000) not in found:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await proven_dead(connection, [RECORD.incarnation])
            while found[-1] != HeldInSilence():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert len(await ledger(connection)) == 150


async def test_what_is_kept_so_is_told_of_each_window(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    await cut_off(connection, reservations)
    assert [each async for each in reservations.suspects(RECORD.tenant)] == []
    await sweeper.sweep()
    kept = held_of([each async for each in reservations.suspects(RECORD.tenant)], RECORD.tenant)
    assert {(scope, unit): amount for (_, scope, _, unit, _), amount in kept.items()} == {
        (Scope.USER, Unit.TOKENS): 1_000,
        (Scope.TENANT, Unit.REQUESTS): 1,
    }


async def test_the_next_start_on_the_same_disk_proves_a_death_and_a_wrong_proof_is_taken_back(
    connection: RedisClient, reservations: RedisReservations, tmp_path: Path
) -> None:
    async with Journal(tmp_path, NEVER_SEEN):
        pass
    (tmp_path / RECORD.incarnation).mkdir()
    async with Incarnation(connection) as other, Journal(tmp_path, other.id) as journal:
        ends = {"billed": lambda record: None, "corrected": lambda record: None}

        async def buried(incarnations: list[str]) -> None:
            await proven_dead(connection, incarnations)

        async with Replay(reservations, journal, other.beat, buried=buried, **ends):  # type: ignore[arg-type]
            assert RECORD.incarnation in await dead(connection)
            assert other.id not in await dead(connection)
        await proven_dead(connection, [other.id])
        await other.beat()
        assert other.id not in await dead(connection)
