"""What a gateway that died leaves open is ended by another, once, and billed as far as it was proven."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from policies.pricing import Price
from policies.quota import Ask, Limit, Per, Scope, Subject, Unit
from proxy.billing.entry import Entry
from proxy.billing.record import COUNTED, GATEWAY_LOST, ExchangeRecord, Source, correction
from proxy.errors import LedgerUnavailable
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.compiled_limits import CompiledLimits, code_of
from proxy.store.ledger import read
from proxy.store.membership.incarnation import DEAD_AFTER_US, Incarnation, proven_dead
from proxy.store.redis_reservations import RedisReservations
from proxy.store.reservations import Settlement
from proxy.store.sweeper import Sweeper
from tests.counters import END_DAY, MOVED
from tests.records import RECORD

LIMITS = (
    Limit(Scope.USER, Unit.TOKENS, 100_000, Per.DAY),
    Limit(Scope.TENANT, Unit.REQUESTS, 100, Per.DAY),
    Limit(Scope.USER, Unit.CONCURRENT, 2, None),
)
SUBJECT = Subject(tenant=RECORD.tenant, user=RECORD.user, model=RECORD.model)
ASK = Ask(prompt_tokens=100, choices=1, max_completion=900, min_completion=256, hold_us=5_000_000)


PRICE = Price(version="2026-11", currency="USD", prompt=1_000_000, cached=1_000_000, completion=1_000_000)
"""One micro a token."""


def noted(prompt: int, completion: int, **fields: Any) -> ExchangeRecord:
    """Return the record as it stands when so much is used."""
    return RECORD._replace(prompt_tokens=prompt, completion_tokens=completion, **fields)


@pytest.fixture
async def incarnation(connection: RedisClient) -> AsyncIterator[Incarnation]:
    async with Incarnation(connection) as living:
        await proven_dead(connection, [RECORD.incarnation])
        yield living


@pytest.fixture
def reservations(connection: RedisClient, incarnation: Incarnation) -> RedisReservations:
    return RedisReservations(connection, incarnation)


@pytest.fixture
def sweeper(connection: RedisClient, reservations: RedisReservations) -> Sweeper:
    return Sweeper(connection, reservations)


async def made_long_ago(connection: RedisClient, record: ExchangeRecord) -> None:
    """Let a reservation be older than a dead gateway's last beat may be."""
    member = keys.open_member(record.incarnation, record.request_id)
    await connection.call("ZINCRBY", keys.open_index(record.tenant), -2 * DEAD_AFTER_US, member)


async def ledger(connection: RedisClient) -> list[Entry]:
    return [entry async for entry in read(connection, [RECORD.tenant], 0, 2**52)]


async def used(reservations: RedisReservations) -> list[int]:
    return [status.used for status in await reservations.statuses(SUBJECT, LIMITS)]


async def test_a_dead_gateways_reservation_is_billed_by_its_last_progress(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    await reservations.reserve(RECORD, LIMITS, ASK, price=PRICE)
    await reservations.progress(noted(90, 40))
    await reservations.progress(noted(90, 30))
    await made_long_ago(connection, RECORD)
    assert await sweeper.sweep() == 1
    [entry] = await ledger(connection)
    record = entry.record
    assert (record.prompt_tokens, record.completion_tokens, record.charge_picos) == (90, 40, 130_000_000)
    assert (entry.record.source, entry.record.outcome) == (Source.RECOVERED, GATEWAY_LOST)
    assert await used(reservations) == [130, 1, 0]
    assert await sweeper.sweep() == 0


async def test_what_was_never_observed_is_not_billed_but_stays_used(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    await reservations.reserve(RECORD, LIMITS, ASK, price=PRICE)
    await made_long_ago(connection, RECORD)
    assert await sweeper.sweep() == 1
    [entry] = await ledger(connection)
    assert (entry.record.prompt_tokens, entry.record.completion_tokens, entry.record.charge_picos) == (0, 0, 0)
    assert await used(reservations) == [1000, 1, 0]


@pytest.mark.parametrize(
    "progress",
    [None, (90, 40), (120, 900)],
    ids=["nothing noted", "less noted", "more noted, of an attempt that failed"],
)
async def test_a_gateway_that_was_only_paused_corrects_its_bill_once(
    connection: RedisClient,
    reservations: RedisReservations,
    sweeper: Sweeper,
    progress: tuple[int, int] | None,
) -> None:
    await reservations.reserve(RECORD, LIMITS, ASK, price=PRICE)
    if progress is not None:
        await reservations.progress(noted(*progress))
    await made_long_ago(connection, RECORD)
    await sweeper.sweep()
    [final] = await ledger(connection)
    first = await reservations.settle(RECORD, LIMITS)
    assert first == Settlement(final.id, ours=False, correction=correction(RECORD, final.record))
    assert await reservations.settle(RECORD._replace(completion_tokens=500), LIMITS) == first, "repeated"
    await reservations.release(RECORD, LIMITS)
    rows = await ledger(connection)
    assert [(row.kind, row.record) for row in rows[1:]] == [("CORRECTION", first.correction)]
    for name in COUNTED:
        assert sum(getattr(row.record, name) for row in rows) == getattr(RECORD, name)
    assert await used(reservations) == [131, 1, 0]


async def test_what_a_paused_gateway_releases_is_given_back_after_all(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    await reservations.reserve(RECORD, LIMITS, ASK, price=PRICE)
    await made_long_ago(connection, RECORD)
    await sweeper.sweep()
    assert await used(reservations) == [1000, 1, 0]
    for _ in range(2):
        await reservations.release(RECORD, LIMITS)
        assert await used(reservations) == [0, 0, 0]
    assert (await reservations.settle(RECORD, LIMITS)).correction is None
    assert [entry.kind for entry in await ledger(connection)] == ["FINAL"]


async def test_a_correction_is_told_to_who_wrote_it(connection: RedisClient, reservations: RedisReservations) -> None:
    await reservations.reserve(RECORD, LIMITS, ASK, price=PRICE)
    await reservations.expire(RECORD._replace(completion_tokens=1), LIMITS, held=0)
    correction = (await reservations.settle(RECORD, LIMITS)).correction
    assert correction is not None
    assert correction.completion_tokens == 10
    async with Incarnation(connection) as other:
        elsewhere = RedisReservations(connection, other)
        assert (await elsewhere.settle(RECORD, LIMITS)).correction is None


async def test_a_correction_of_a_window_that_closed_moves_only_the_bill(
    connection: RedisClient, reservations: RedisReservations
) -> None:
    await reservations.reserve(RECORD, LIMITS, ASK, price=PRICE)
    await reservations.expire(RECORD._replace(completion_tokens=1), LIMITS, held=0)
    day = code_of(LIMITS[0])
    (counter,) = CompiledLimits(LIMITS[:1]).keys("acme", "ada", "demo")
    await connection.call("EVAL", MOVED, 1, counter, day, END_DAY, 1)
    assert (await reservations.settle(RECORD, LIMITS)).correction is not None
    assert await used(reservations) == [121, 1, 0]


async def test_a_marker_outlives_the_replay_horizon(connection: RedisClient, reservations: RedisReservations) -> None:
    await reservations.reserve(RECORD, LIMITS, ASK, price=PRICE)
    for end in (reservations.expire(RECORD, LIMITS, held=0), reservations.settle(RECORD, LIMITS)):
        await end
        assert await connection.call("PTTL", keys.reservation(RECORD.tenant, RECORD.request_id)) > 7_190_000


async def test_the_living_and_the_young_are_left_alone(
    connection: RedisClient, incarnation: Incarnation, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    mine = RECORD._replace(request_id="mine", incarnation=incarnation.id)
    young = RECORD._replace(request_id="young")
    for record in (mine, young):
        await reservations.reserve(record, LIMITS, ASK, price=PRICE)
    await made_long_ago(connection, mine)
    assert await sweeper.sweep() == 0
    assert await used(reservations) == [2000, 2, 2]


async def test_who_has_not_beaten_for_ten_seconds_is_suspect(
    connection: RedisClient, incarnation: Incarnation, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    async with Incarnation(connection) as other:
        silent = RECORD._replace(incarnation=other.id)
        await reservations.reserve(silent, LIMITS, ASK, price=PRICE)
        await made_long_ago(connection, silent)
        assert await sweeper.sweep() == 0
        await connection.call("ZINCRBY", keys.INCARNATIONS, -DEAD_AFTER_US - 1, other.id)
        assert await sweeper.sweep() == 0
        assert await used(reservations) == [1000, 1, 0]
    assert await sweeper.sweep() == 1, "it has said goodbye"


async def test_who_is_itself_taken_for_dead_judges_nobody(
    connection: RedisClient, incarnation: Incarnation, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    await reservations.reserve(RECORD, LIMITS, ASK, price=PRICE)
    await made_long_ago(connection, RECORD)
    await connection.call("ZINCRBY", keys.INCARNATIONS, -DEAD_AFTER_US - 1, incarnation.id)
    assert await sweeper.sweep() == 0
    await incarnation.beat()
    assert await sweeper.sweep() == 1


async def test_a_recovered_record_tells_the_turn_that_was_noted(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    draft = RECORD._replace(replica="", attempts=0, ttft_ms=None, queue_ms=0)
    turned = {"replica": "demo-1", "group": "canary", "attempts": 2, "queue_ms": 7, "ttft_ms": 90, "wasted_tokens": 5}
    await reservations.reserve(draft, LIMITS, ASK, price=PRICE)
    await reservations.progress(noted(0, 0, **turned))
    await made_long_ago(connection, RECORD)
    await sweeper.sweep()
    [entry] = await ledger(connection)
    assert {name: getattr(entry.record, name) for name in turned} == turned
    assert await used(reservations) == [1000, 1, 0], "nothing was observed"


async def test_what_an_earlier_attempt_used_is_not_billed(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    await reservations.reserve(RECORD, LIMITS, ASK, price=PRICE)
    await reservations.progress(noted(90, 40, attempts=1))
    await reservations.progress(noted(0, 0, attempts=2))
    await reservations.progress(noted(90, 41, attempts=1))
    await made_long_ago(connection, RECORD)
    await sweeper.sweep()
    [entry] = await ledger(connection)
    assert (entry.record.prompt_tokens, entry.record.completion_tokens) == (0, 0)


async def test_what_is_swept_costs_what_it_cost_when_it_was_reserved(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    free = RECORD._replace(request_id="free", price_version="", currency="", charge_picos=0)
    for record, price in ((RECORD, PRICE), (free, None)):
        await reservations.reserve(record, LIMITS, ASK, price=price)
        await reservations.progress(noted(90, 40, request_id=record.request_id))
        await made_long_ago(connection, record)
    await sweeper.sweep()
    charges = {entry.record.request_id: entry.record.charge_picos for entry in await ledger(connection)}
    assert charges == {RECORD.request_id: 130_000_000, "free": 0}


async def test_a_sweep_cut_short_is_finished_by_the_next_sweeper(
    connection: RedisClient, reservations: RedisReservations
) -> None:
    many = [RECORD._replace(request_id=f"R{number}") for number in range(30)]
    for record in many:
        await reservations.reserve(record, LIMITS[:1], ASK)
        await made_long_ago(connection, record)
    under_way = asyncio.Event()

    async with asyncio.timeout(20):
        async with Sweeper(connection, reservations, ended=lambda record: under_way.set(), sweep_s=0.05):
            await under_way.wait()
        assert await connection.call("ZCARD", keys.open_index(RECORD.tenant)) > 0
        await connection.call("DEL", keys.SWEEP)
        async with Sweeper(connection, reservations, sweep_s=0.05):
            while await connection.call("ZCARD", keys.open_index(RECORD.tenant)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    billed = [entry.record.request_id for entry in await ledger(connection)]
    assert sorted(billed) == sorted(record.request_id for record in many)


async def test_an_index_entry_without_a_reservation_is_dropped(
    connection: RedisClient, reservations: RedisReservations, sweeper: Sweeper
) -> None:
    await reservations.reserve(RECORD, LIMITS, ASK, price=PRICE)
    await made_long_ago(connection, RECORD)
    await connection.call("DEL", keys.reservation(RECORD.tenant, RECORD.request_id))
    assert await sweeper.sweep() == 0
    assert await connection.call("ZCARD", keys.open_index(RECORD.tenant)) == 0
    assert await ledger(connection) == []


async def test_an_end_of_another_sweeper_is_not_told_again(
    connection: RedisClient, reservations: RedisReservations
) -> None:
    await reservations.reserve(RECORD, LIMITS, ASK, price=PRICE)
    assert (await reservations.expire(RECORD, LIMITS, held=0)).ours
    assert (await reservations.expire(RECORD, LIMITS, held=0)).ours, "its own, repeated"
    async with Incarnation(connection) as other:
        elsewhere = RedisReservations(connection, other)
        assert not (await elsewhere.expire(RECORD, LIMITS, held=0)).ours
        assert not (await elsewhere.settle(RECORD, LIMITS)).ours
    assert [entry.kind for entry in await ledger(connection)] == ["FINAL", "CORRECTION"]


async def test_an_end_without_an_answer_is_told_by_the_next_sweep(
    connection: RedisClient, reservations: RedisReservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[ExchangeRecord] = []
    await reservations.reserve(RECORD, LIMITS, ASK, price=PRICE)
    await made_long_ago(connection, RECORD)
    sweeper, expire = Sweeper(connection, reservations, ended=told.append), reservations.expire

    async def unanswered(*args: Any, **options: Any) -> Settlement:
        await expire(*args, **options)
        raise LedgerUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(reservations, "expire", unanswered)
        with pytest.raises(LedgerUnavailable):
            await sweeper.sweep()
    assert told == []
    assert await sweeper.sweep() == 1
    assert await sweeper.sweep() == 0
    assert told == [entry.record for entry in await ledger(connection)]


async def test_after_a_start_and_an_outage_the_living_beat_before_anybody_is_swept(
    connection: RedisClient, reservations: RedisReservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sweeper = Sweeper(connection, reservations, sweep_s=0.001)

    async def turn() -> bool:
        steps.append("turn")
        if len(steps) == 4:
            raise LedgerUnavailable
        return True

    async def sweep() -> int:
        steps.append("sweep")
        return 0

    monkeypatch.setattr(sweeper, "_is_my_turn", turn)
    monkeypatch.setattr(sweeper, "sweep", sweep)
    async with sweeper, asyncio.timeout(5):
        while len(steps) < 7:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert steps[:7] == ["turn", "turn", "sweep", "turn", "turn", "turn", "sweep"]


async def test_each_record_that_a_sweep_appended_is_told_once(
    connection: RedisClient, reservations: RedisReservations
) -> None:
    told: list[ExchangeRecord] = []
    dead = RECORD._replace(incarnation="01JB0000000000000000000000")
    await proven_dead(connection, [dead.incarnation])
    await reservations.reserve(dead, LIMITS, ASK, price=PRICE)
    await reservations.progress(dead._replace(prompt_tokens=90, completion_tokens=40))
    await made_long_ago(connection, dead)
    sweeper = Sweeper(connection, reservations, ended=told.append)
    await sweeper.sweep()
    await sweeper.sweep()
    assert told == [entry.record for entry in await ledger(connection)]
    assert [record.completion_tokens for record in told] == [40]
