"""What a tenant notices of reservations, on a real Redis: how much fits, what comes back, and when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from policies.quota import WHOLE, Ask, Granted, Limit, Per, Refused, Repeated, Scope, Subject, Unit
from proxy.billing.record import ExchangeRecord
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.compiled_limits import CompiledLimits, code_of
from proxy.store.ledger import read
from proxy.store.membership.incarnation import Incarnation
from proxy.store.redis_reservations import RedisReservations
from proxy.store.reservations import AlreadyEnded, Reservations, Settlement
from tests.counters import END_DAY, MOVED
from tests.records import RECORD
from tests.redis_server import on_all_servers

USER_TOKENS = Limit(Scope.USER, Unit.TOKENS, 100_000, Per.MINUTE)
USER_REQUESTS = Limit(Scope.USER, Unit.REQUESTS, 10_000, Per.DAY)
USER_IN_FLIGHT = Limit(Scope.USER, Unit.CONCURRENT, 2, None)
TENANT_MONTH = Limit(Scope.TENANT, Unit.TOKENS, 1_000_000, Per.MONTH)
ALL = (USER_TOKENS, USER_REQUESTS, USER_IN_FLIGHT, TENANT_MONTH)
SUBJECT = Subject(tenant=RECORD.tenant, user=RECORD.user, model=RECORD.model)
DAY_US = 86_400_000_000
ASK = Ask(prompt_tokens=100, choices=1, max_completion=900, min_completion=256, hold_us=5_000_000)

pytestmark = on_all_servers


def exchange(number: int, **fields: object) -> ExchangeRecord:
    """Return the record of one of several exchanges."""
    return RECORD._replace(request_id=f"R{number}", **fields)  # type: ignore[arg-type]


@pytest.fixture
async def reservations(connection: RedisClient) -> AsyncIterator[Reservations]:
    async with Incarnation(connection) as incarnation:
        yield RedisReservations(connection, incarnation)


async def used(reservations: Reservations, limits: tuple[Limit, ...] = ALL) -> list[int]:
    return [status.used for status in await reservations.statuses(SUBJECT, limits)]


async def test_a_settle_keeps_what_was_used_and_returns_the_rest(reservations: Reservations) -> None:
    granted = await reservations.reserve(RECORD, ALL, ASK)
    assert isinstance(granted, Granted)
    assert granted.max_completion == 900
    assert [(status.limit, status.used) for status in granted.statuses] == [
        (USER_TOKENS, 1000),
        (USER_REQUESTS, 1),
        (USER_IN_FLIGHT, 1),
    ]
    await reservations.settle(RECORD, ALL)
    assert (await used(reservations))[1:] == [1, 0, 131]
    assert (await used(reservations))[0] <= 131


async def test_a_settle_repeated_tells_the_first_and_bills_once(
    connection: RedisClient, reservations: Reservations
) -> None:
    await reservations.reserve(RECORD, ALL, ASK)
    first = await reservations.settle(RECORD, ALL)
    again = await reservations.settle(RECORD._replace(completion_tokens=5000), ALL)
    assert again == first
    assert first.ours
    assert [entry.record async for entry in read(connection, ["acme"], 0, 2**52)] == [RECORD]
    assert (await used(reservations))[3] == 131


async def test_a_settle_without_a_reservation_is_charged_and_billed(
    connection: RedisClient, reservations: Reservations
) -> None:
    await reservations.settle(RECORD, ALL)
    assert (await used(reservations))[1:] == [1, 0, 131]
    assert [entry.record async for entry in read(connection, ["acme"], 0, 2**52)] == [RECORD]


async def test_what_was_never_observed_stays_reserved_and_is_billed_as_proven(
    connection: RedisClient, reservations: Reservations
) -> None:
    await reservations.reserve(RECORD, ALL, ASK)
    cut = RECORD._replace(prompt_tokens=0, completion_tokens=0)
    await reservations.settle(cut, ALL, held=WHOLE)
    assert (await used(reservations))[1:] == [1, 0, 1000]
    assert [entry.record async for entry in read(connection, ["acme"], 0, 2**52)] == [cut]


@pytest.mark.parametrize(
    ("billed", "truth"),
    [
        (0, 9_223_372_036_854_775_807),
        (9_007_199_254_740_993, 9_007_199_254_740_992),
        (2_000_000_000_001, 1_999_999_999_999),
        (3_000_000_000_000, 1_000_000_000_001),
        (7_000_000_000_000, 4_000_000_000_000),
        (999_999_999_999, 1_000_000_000_000),
        (40_000, 60_000),
    ],
)
async def test_a_correction_is_exact_for_any_charge(
    connection: RedisClient, reservations: RedisReservations, billed: int, truth: int
) -> None:
    await reservations.reserve(RECORD, ALL, ASK)
    await reservations.expire(RECORD._replace(charge_picos=billed, reasoning_tokens=2), ALL, held=0)
    settlement = await reservations.settle(RECORD._replace(charge_picos=truth, reasoning_tokens=9), ALL)
    assert settlement.correction is not None
    assert (settlement.correction.charge_picos, settlement.correction.reasoning_tokens) == (truth - billed, 7)
    rows = [entry.record.charge_picos async for entry in read(connection, [RECORD.tenant], 0, DAY_US * 10**6)]
    assert rows == [billed, truth - billed]


async def test_a_release_returns_everything(connection: RedisClient, reservations: Reservations) -> None:
    await reservations.reserve(RECORD, ALL, ASK)
    await reservations.release(RECORD, ALL)
    await reservations.release(RECORD, ALL)
    assert await used(reservations) == [0, 0, 0, 0]
    assert await reservations.settle(RECORD, ALL) == Settlement(None, ours=False)
    assert [entry async for entry in read(connection, ["acme"], 0, 2**52)] == []


async def test_a_reserve_that_arrives_after_its_release_takes_nothing(reservations: Reservations) -> None:
    await reservations.release(RECORD, ALL)
    with pytest.raises(AlreadyEnded):
        await reservations.reserve(RECORD, ALL, ASK)
    assert await used(reservations) == [0, 0, 0, 0]


@pytest.mark.parametrize("give_up_after", [0, 1, 2, 3, 5, 8, 13, 21])
async def test_a_cancelled_reserve_and_its_release_leak_nothing(reservations: Reservations, give_up_after: int) -> None:
    await reservations.statuses(SUBJECT, ALL)
    reserving = asyncio.create_task(reservations.reserve(RECORD, ALL, ASK))
    for _ in range(give_up_after):
        await asyncio.sleep(0)
    reserving.cancel()
    await asyncio.gather(reserving, return_exceptions=True)
    await reservations.release(RECORD, ALL)
    with suppress(AlreadyEnded):
        await reservations.reserve(RECORD, ALL, ASK)
    assert await used(reservations) == [0, 0, 0, 0]


async def test_a_thousand_at_once_never_exceed_the_limit(reservations: Reservations) -> None:
    limits = (Limit(Scope.USER, Unit.TOKENS, 100_000, Per.DAY), USER_TOKENS)
    ask = ASK._replace(max_completion=900, min_completion=900)
    decisions = await asyncio.gather(*(reservations.reserve(exchange(i), limits, ask) for i in range(1000)))
    granted = [decision for decision in decisions if isinstance(decision, Granted)]
    assert len(granted) == 100
    assert (await used(reservations, limits))[0] == 100_000


async def test_levels_move_together_or_not_at_all(reservations: Reservations) -> None:
    tight = Limit(Scope.MODEL, Unit.TOKENS, 300, Per.DAY)
    refused = await reservations.reserve(RECORD, (USER_TOKENS, USER_IN_FLIGHT, tight, TENANT_MONTH), ASK)
    assert isinstance(refused, Refused)
    assert refused.limit == tight
    assert refused.retry_after_us is None
    assert await used(reservations, (USER_TOKENS, USER_IN_FLIGHT, tight, TENANT_MONTH)) == [0, 0, 0, 0]


async def test_the_completion_is_clamped_to_what_fits(reservations: Reservations) -> None:
    tight = (Limit(Scope.USER, Unit.TOKENS, 1_150, Per.DAY),)
    ask = ASK._replace(choices=2, max_completion=900)
    first = await reservations.reserve(exchange(1), tight, ask)
    assert isinstance(first, Granted)
    assert first.max_completion == 525
    second = await reservations.reserve(exchange(2), tight, ask)
    assert isinstance(second, Refused)
    assert second.retry_after_us is not None
    assert 0 < second.retry_after_us <= 86_400_000_000


async def test_who_waits_as_long_as_told_is_admitted(reservations: Reservations) -> None:
    paced = (Limit(Scope.USER, Unit.TOKENS, 5_000, Per.SECOND),)
    ask = ASK._replace(prompt_tokens=0, max_completion=5_000, min_completion=3_000)
    assert isinstance(await reservations.reserve(exchange(1), paced, ask), Granted)
    refused = await reservations.reserve(exchange(2), paced, ask)
    assert isinstance(refused, Refused)
    assert refused.retry_after_us is not None
    assert 0 < refused.retry_after_us <= 600_000
    await asyncio.sleep(refused.retry_after_us / 1e6)
    assert isinstance(await reservations.reserve(exchange(3), paced, ask), Granted)


async def test_a_refusal_tells_how_the_limit_stands_that_refused(reservations: Reservations) -> None:
    day = Limit(Scope.USER, Unit.TOKENS, 2_300, Per.DAY)
    limits = (Limit(Scope.USER, Unit.TOKENS, 2_000, Per.HOUR), day)
    for number in range(2):
        assert isinstance(await reservations.reserve(exchange(number), limits, ASK), Granted)
    refused = await reservations.reserve(exchange(2), limits, ASK)
    assert isinstance(refused, Refused)
    # Of the hour less is left, but the day takes longer.
    assert (refused.limit, [(each.limit, each.remaining) for each in refused.statuses]) == (day, [(day, 300)])


async def test_places_in_flight_are_given_back_and_the_wait_is_the_earliest_end(
    reservations: Reservations,
) -> None:
    limits = (USER_IN_FLIGHT,)
    await reservations.reserve(exchange(1), limits, ASK._replace(hold_us=60_000_000))
    await reservations.reserve(exchange(2), limits, ASK._replace(hold_us=30_000_000))
    refused = await reservations.reserve(exchange(3), limits, ASK)
    assert isinstance(refused, Refused)
    assert refused.retry_after_us is not None
    assert 1_000_000 <= refused.retry_after_us <= 30_000_000
    await reservations.settle(exchange(1), limits)
    assert isinstance(await reservations.reserve(exchange(4), limits, ASK), Granted)


async def test_another_plan_counts_on_from_what_was_used(reservations: Reservations) -> None:
    small, large = (Limit(Scope.USER, Unit.TOKENS, amount, Per.DAY) for amount in (1_000, 1_500))
    ask = ASK._replace(min_completion=900)
    assert isinstance(await reservations.reserve(exchange(1), (small,), ask), Granted)
    assert isinstance(await reservations.reserve(exchange(2, plan="large"), (large,), ask), Refused)


async def test_a_plan_without_limits_is_granted_and_billed(connection: RedisClient, reservations: Reservations) -> None:
    granted = await reservations.reserve(RECORD, (), ASK)
    assert granted == Granted(900, ())
    await reservations.settle(RECORD, ())
    assert len([entry async for entry in read(connection, ["acme"], 0, 2**52)]) == 1


async def test_a_release_of_nothing_is_remembered_only_for_minutes(
    connection: RedisClient, reservations: Reservations
) -> None:
    await reservations.release(RECORD, ALL)
    assert 0 < await connection.call("PTTL", keys.reservation(RECORD.tenant, RECORD.request_id)) <= 300_000
    await reservations.settle(exchange(1), ALL)
    assert await connection.call("PTTL", keys.reservation(RECORD.tenant, "R1")) > 3_600_000


async def test_a_trim_gives_back_once_and_a_settle_posts_the_truth(reservations: Reservations) -> None:
    limits = (Limit(Scope.USER, Unit.TOKENS, 10_000, Per.DAY), Limit(Scope.USER, Unit.REQUESTS, 10, Per.DAY))
    subject = Subject(tenant=RECORD.tenant, user=RECORD.user, model=RECORD.model)
    ask = Ask(prompt_tokens=4_000, choices=1, max_completion=500, min_completion=256, hold_us=1_000_000)
    await reservations.reserve(RECORD, limits, ask)
    for _ in range(2):
        await reservations.trim(RECORD, limits, 3_000)
        assert [status.used for status in await reservations.statuses(subject, limits)] == [1_500, 1]
    await reservations.settle(RECORD._replace(prompt_tokens=1_000, completion_tokens=7), limits)
    await reservations.trim(RECORD, limits, 100)
    assert [status.used for status in await reservations.statuses(subject, limits)] == [1_007, 1]


async def test_a_clients_own_key_admits_one_of_many_at_once(
    connection: RedisClient, reservations: Reservations
) -> None:
    decisions = await asyncio.gather(
        *(reservations.reserve(exchange(number), ALL, ASK, once="a key {with} : % all") for number in range(50))
    )
    [first] = [number for number, decision in enumerate(decisions) if isinstance(decision, Granted)]
    assert [decision for decision in decisions if not isinstance(decision, Granted)] == 49 * [Repeated(f"R{first}")]
    assert (await used(reservations))[1:3] == [1, 1]
    assert await reservations.reserve(exchange(first), ALL, ASK, once="a key {with} : % all") == decisions[first]
    place = keys.once(RECORD.tenant, RECORD.user, "a key {with} : % all")
    assert 86_300_000 < int(await connection.call("PTTL", place)) <= 86_400_000


async def test_a_key_is_its_users_own(reservations: Reservations) -> None:
    for number, name in enumerate(("ada", "bob")):
        assert isinstance(await reservations.reserve(exchange(number, user=name), ALL, ASK, once="k"), Granted)


async def test_a_refusal_remembers_no_key_and_a_release_forgets_it(reservations: Reservations) -> None:
    tight = (Limit(Scope.USER, Unit.TOKENS, 300, Per.DAY),)
    assert isinstance(await reservations.reserve(exchange(1), tight, ASK, once="k"), Refused)
    assert isinstance(await reservations.reserve(exchange(2), ALL, ASK, once="k"), Granted)
    await reservations.release(exchange(2), ALL)
    assert isinstance(await reservations.reserve(exchange(3), ALL, ASK, once="k"), Granted)
    await reservations.settle(exchange(3), ALL)
    assert await reservations.reserve(exchange(4), ALL, ASK, once="k") == Repeated("R3")


EVERY = tuple(
    Limit(scope, unit, 10**9, per)
    for scope in Scope
    for unit, per in [*((unit, per) for unit in (Unit.TOKENS, Unit.REQUESTS) for per in Per), (Unit.CONCURRENT, None)]
)
WINDOWS = tuple(limit for limit in EVERY if limit.per in (Per.DAY, Per.MONTH))


def units(limits: tuple[Limit, ...], *, tokens: int, requests: int) -> list[int]:
    return [tokens if limit.unit is Unit.TOKENS else requests for limit in limits]


async def test_every_limit_there_is_moves_and_comes_back(reservations: Reservations) -> None:
    await reservations.reserve(RECORD, EVERY, ASK)
    await reservations.reserve(exchange(1), EVERY, ASK)
    assert await used(reservations, WINDOWS) == units(WINDOWS, tokens=2_000, requests=2)
    await reservations.settle(RECORD, EVERY)
    assert await used(reservations, WINDOWS) == units(WINDOWS, tokens=1_131, requests=2)
    await reservations.release(exchange(1), EVERY)
    assert await used(reservations, WINDOWS) == units(WINDOWS, tokens=131, requests=1)
    assert await used(reservations, EVERY[10::11]) == [0, 0, 0, 0]


async def test_of_many_windows_only_those_it_was_taken_from_get_the_rest_back(
    connection: RedisClient, reservations: Reservations
) -> None:
    await reservations.reserve(RECORD, EVERY, ASK)
    days = Limit(Scope.MODEL, Unit.TOKENS, 10**9, Per.DAY)
    (counter,) = CompiledLimits((days,)).keys(RECORD.tenant, RECORD.user, RECORD.model)
    await connection.call("EVAL", MOVED, 1, counter, code_of(days), END_DAY, 1)
    await reservations.settle(RECORD, EVERY)
    assert await used(reservations, (days,)) == [1_000]
    others = tuple(limit for limit in WINDOWS if limit != days)
    assert await used(reservations, others) == units(others, tokens=131, requests=1)


async def test_another_plans_limits_stay_as_they_are(reservations: Reservations) -> None:
    few = (Limit(Scope.USER, Unit.REQUESTS, 5, Per.MONTH), Limit(Scope.USER, Unit.TOKENS, 9_000, Per.DAY))
    await reservations.reserve(RECORD, EVERY, ASK)
    await reservations.reserve(exchange(1), few, ASK)
    assert await used(reservations, few) == [2, 2_000]
    of_user = tuple(limit for limit in WINDOWS if limit.scope is Scope.USER)
    in_few = {(limit.unit, limit.per) for limit in few}
    once = [1 if (limit.unit, limit.per) not in in_few else 2 for limit in of_user]
    whole = units(of_user, tokens=1_000, requests=1)
    assert await used(reservations, of_user) == [count * one for count, one in zip(once, whole, strict=True)]


async def test_an_end_finds_its_limits_also_behind_those_of_another_plan(reservations: Reservations) -> None:
    few = (Limit(Scope.USER, Unit.REQUESTS, 5, Per.MONTH), Limit(Scope.USER, Unit.TOKENS, 9_000, Per.DAY))
    await reservations.reserve(RECORD, EVERY, ASK)
    await reservations.reserve(exchange(1), few, ASK)
    await reservations.settle(RECORD, EVERY)
    await reservations.settle(exchange(1), few)
    assert await used(reservations, few) == [2, 262]
    others = tuple(limit for limit in WINDOWS if limit.scope is not Scope.USER)
    assert await used(reservations, others) == units(others, tokens=131, requests=1)
    alone = tuple(
        Limit(Scope.USER, unit, 10**9, per) for unit, per in [(Unit.TOKENS, Per.MONTH), (Unit.REQUESTS, Per.DAY)]
    )
    assert await used(reservations, alone) == [131, 1]


async def test_a_place_that_nobody_can_end_any_more_is_free_and_its_set_is_kept(
    connection: RedisClient, reservations: Reservations
) -> None:
    limits = (USER_IN_FLIGHT,)
    (place,) = CompiledLimits(limits).keys(RECORD.tenant, RECORD.user, RECORD.model)
    await reservations.reserve(RECORD, limits, ASK)
    await reservations.reserve(exchange(1), limits, ASK)
    assert isinstance(await reservations.reserve(exchange(2), limits, ASK), Refused)
    now_us = int(float(await connection.call("ZSCORE", place, RECORD.request_id)))
    await connection.call("ZADD", place, now_us - 31 * DAY_US, RECORD.request_id)
    await connection.call("PEXPIRE", place, 29 * DAY_US // 1_000)
    assert isinstance(await reservations.reserve(exchange(2), limits, ASK), Granted)
    assert await connection.call("ZCARD", place) == 2
    assert await connection.call("PTTL", place) > 59 * DAY_US // 1_000
