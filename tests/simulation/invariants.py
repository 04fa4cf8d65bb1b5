"""What must hold of a world: always, and at rest. Each assertion names the exchange that it is about."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from engine.protocols.usage import Usage
from policies.quota import LimitKind, LimitStatus, Subject, Unit
from proxy.billing.record import CLIENT_CLOSED, ExchangeRecord, Source, read
from proxy.store import keys
from proxy.store.membership.incarnation import Incarnation
from proxy.store.redis_reservations import RedisReservations
from tests.simulation.client import End, SimClient
from tests.simulation.fleet import Attempt
from tests.simulation.scenario import TENANTS, USERS
from tests.simulation.world import CLIENT_S_MAX, World

CALM_S = 6.0
"""So long before a kill calls must have gone well for a whole beat to have reached Redis."""
BEAT_S = 1.0


@dataclass(slots=True)
class Bill:
    """All rows of one exchange."""

    finals: list[ExchangeRecord] = field(default_factory=list)
    corrections: list[ExchangeRecord] = field(default_factory=list)

    @property
    def usage(self) -> tuple[int, int]:
        """The (prompt, completion) tokens that are billed."""
        rows = [*self.finals, *self.corrections]
        return sum(row.prompt_tokens for row in rows), sum(row.completion_tokens for row in rows)


class Invariants:
    """The `tests.simulation.world.Check` of sound gateways."""

    def always(self, world: World) -> None:
        """Assert what holds at every moment."""
        windows_hold(world)

    def at_rest(self, world: World) -> None:
        """Assert everything about a world in which nothing happens any more."""
        at_rest(world)


def windows_hold(world: World) -> None:
    """No window and no place in flight is ever given twice."""
    for status in _statuses(world):
        if status.limit.kind is not LimitKind.RATE:
            assert status.used <= status.limit.amount, f"{status.limit.name} holds {status.used}"
        assert status.used >= 0, f"{status.limit.name} holds {status.used}"


def at_rest(world: World) -> None:
    """Assert everything about a world in which nothing happens any more."""
    bills = _bills(world)
    _nothing_is_open(world)
    for client in world.clients:
        _client_was_served(client, bills)
    for request_id, bill in bills.items():
        _billed_once(request_id, bill)
        _billed_as_received(world, bill, world.attempts.get(request_id, []))
        _billed_for_a_reason(world, bill.finals[0], world.attempts.get(request_id, []))
    _counters_are_the_ledger(world, bills)
    windows_hold(world)


def _nothing_is_open(world: World) -> None:
    for tenant in TENANTS:
        for index in (keys.open_index(tenant), keys.suspect_index(tenant)):
            left = world.redis.call("ZRANGE", index, 0, -1)
            assert left == [], f"still open: {left}"
    for gateway in world.gateways:
        assert not gateway.ended.done(), f"{gateway.name} ended: {gateway.ended!r}"
        assert gateway.ready, f"{gateway.name} does not serve"
        assert gateway.owes() == 0, f"{gateway.name} still owes"
        assert not gateway.clients, f"{gateway.name} still serves"
        places = [each.snapshot() for pool in gateway.pools.values() for each in pool]
        assert {(each.inflight_sequences, each.inflight_tokens) for each in places} == {(0, 0)}, gateway.name
        assert all(each.healthy for each in places), gateway.name
    assert [replica.busy for replica in world.replicas.values()] == [0] * len(world.replicas)


def _client_was_served(client: SimClient, bills: dict[str, Bill]) -> None:
    story = f"client {client.asks.number} of {client.gateway} ({client.request_id})"
    assert client.end is not None, f"{story} still waits after {CLIENT_S_MAX} s"
    if client.end is End.CUT:
        assert client.stalled or client.gateway, f"{story} was cut"
    if client.end is End.WHOLE:
        assert client.status is not None, f"{story} got nothing"
        assert client.status != 500, f"{story}: {client.answer!r}"
    if client.saw_the_end:
        bill = bills.get(client.request_id)
        assert bill is not None, f"{story} has its answer and no bill"
        if client.shown is not None:
            assert bill.usage == client.shown, f"{story} was shown {client.shown} and is billed {bill.usage}"


def _billed_once(request_id: str, bill: Bill) -> None:
    assert len(bill.finals) == 1, f"{request_id} has {len(bill.finals)} FINAL rows"
    assert len(bill.corrections) <= 1, f"{request_id} has {len(bill.corrections)} CORRECTION rows"


def _billed_as_received(world: World, bill: Bill, attempts: list[Attempt]) -> None:
    final = bill.finals[0]
    story = f"{final.request_id} ({final.source}, {final.outcome})"
    received = attempts[-1].usage if attempts else Usage()
    prompt, completion = bill.usage
    assert prompt in (0, received.prompt_tokens), f"{story} is billed a prompt of {prompt}, not {received}"
    assert completion <= received.completion_tokens, f"{story} is billed {completion} of {received}"
    killed_at_s = world.killed_at_s.get(final.incarnation)
    if killed_at_s is not None and final.source is Source.RECOVERED:
        least = _received_by(attempts, killed_at_s - 1.5 * BEAT_S) if _was_calm(world, killed_at_s) else 0
        assert completion >= least, f"{story} is billed {completion}; {least} were there a beat before the kill"
    elif final.outcome == "ok" or (final.source is Source.CUT and prompt):
        assert completion == received.completion_tokens, f"{story} is billed {completion}, not {received}"


def _billed_for_a_reason(world: World, final: ExchangeRecord, attempts: list[Attempt]) -> None:
    """Nobody is swept who lives and beats; nobody is billed whom every replica declined for reasons of its own."""
    story = f"{final.request_id} ({final.source}, {final.outcome})"
    if final.source is Source.RECOVERED:
        silenced = final.incarnation in world.ended or bool(world.troubled_s)
        assert silenced, f"{story} was swept, and its gateway lived"
    elif final.outcome != CLIENT_CLOSED:
        declined = attempts and all((each.status or 200) > 500 for each in attempts)
        assert not declined, f"{story} was declined by every replica and has a bill"


def _was_calm(world: World, at_s: float) -> bool:
    return not any(began < at_s and at_s - CALM_S < ended for began, ended in world.troubled_s)


def _received_by(attempts: list[Attempt], at_s: float) -> int:
    seen = [count for time_s, count in attempts[-1].seen_at_s if time_s <= at_s] if attempts else []
    return max(seen, default=0)


def _spent(world: World, bills: dict[str, Bill]) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], set[int]]]:
    """Return what the bills take of each tenant's and user's windows, and how much less it may be."""
    spent: dict[tuple[str, str], int] = defaultdict(int)
    # What a sweep kept of a request that no replica worked on is given back, if its gateway was only paused.
    returned: dict[tuple[str, str], set[int]] = defaultdict(lambda: {0})
    for bill in bills.values():
        final = bill.finals[0]
        last = [final, *bill.corrections][-1]
        kept = sum(bill.usage)
        if last.source is Source.UNOBSERVED:
            kept += final.wasted_tokens + sum(row.wasted_tokens for row in bill.corrections)
        elif last.source is Source.RECOVERED and bill.usage == (0, 0):
            kept = world.held(final.request_id)
        for user in (final.user, ""):
            spent[final.tenant, user] += kept
            if last.source is Source.RECOVERED and not any(
                attempt.usage != Usage() for attempt in world.attempts.get(final.request_id, ())
            ):
                returned[final.tenant, user] |= {sum_ + kept for sum_ in returned[final.tenant, user]}
    return spent, returned


def _counters_are_the_ledger(world: World, bills: dict[str, Bill]) -> None:
    if world.crosses_midnight:
        return
    spent, returned = _spent(world, bills)
    for (tenant, user), tokens in spent.items():
        for status in _of(world, tenant, user or USERS[0]):
            limit = status.limit
            if limit.kind is LimitKind.WINDOW and limit.unit is Unit.TOKENS and (limit.scope == "user") is bool(user):
                story = f"{tenant}/{user} {limit.name}: {status.used}, the ledger {tokens}"
                assert tokens - status.used in returned[tenant, user], story
            if limit.kind is LimitKind.IN_FLIGHT:
                assert status.used == 0, f"{tenant}/{user} {limit.name}: {status.used} in flight"


def _statuses(world: World) -> list[LimitStatus]:
    return [status for tenant in TENANTS for user in USERS for status in _of(world, tenant, user)]


def _of(world: World, tenant: str, user: str) -> tuple[LimitStatus, ...]:
    plan = world.catalog.plan(tenant)
    assert plan is not None
    store = RedisReservations(world.calm, Incarnation(world.calm))
    work = store.statuses(Subject(tenant=tenant, user=user, model="demo"), plan.limits)
    statuses: tuple[LimitStatus, ...] = _at_once(work)
    return statuses


def _bills(world: World) -> dict[str, Bill]:
    bills: dict[str, Bill] = defaultdict(Bill)
    for tenant in TENANTS:
        for _, values in world.redis.call("XRANGE", keys.ledger(tenant), "-", "+"):
            record = read(values["record"])
            bill = bills[record.request_id]
            (bill.finals if values["kind"] == "FINAL" else bill.corrections).append(record)
    return bills


def _at_once(work: Any) -> Any:
    """Return what a coroutine returns that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")
