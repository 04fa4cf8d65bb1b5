"""Whatever a tenant, a user or a model is called, its keys stay its own and in their slot."""

import itertools

import pytest
from redis.crc import key_slot

from policies.quota import Ask, Granted, Limit, Per, Scope, Subject, Unit
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.compiled_limits import CompiledLimits
from proxy.store.ledger import read
from proxy.store.membership.incarnation import Incarnation, tenants
from proxy.store.redis_reservations import RedisReservations
from tests.records import RECORD

HOSTILE = [
    "",
    "%",
    "a:b",
    "a",
    "b",
    "{a}",
    "}{",
    "{}",
    "a b\nc\rd",
    "\0",
    "a\0",
    "..",
    "%7Ba%7D",
    "日本語 🛣",
    "x" * 1000,
    "ü" * 1000,
]
LIMITS = tuple(Limit(scope, Unit.TOKENS, 1_000, Per.DAY) for scope in Scope)
EVERY_KEY = CompiledLimits((*LIMITS, *(Limit(scope, Unit.CONCURRENT, 1_000, None) for scope in Scope)))
ASK = Ask(prompt_tokens=1_000, choices=1, max_completion=0, min_completion=0, hold_us=1)


def _keys(subject: Subject) -> list[str]:
    own = [keys.reservation(subject.tenant, subject.user), keys.open_index(subject.tenant), keys.ledger(subject.tenant)]
    return [*own, *EVERY_KEY.keys(subject.tenant, subject.user, subject.model)]


@pytest.mark.parametrize("name", HOSTILE)
def test_all_keys_of_a_tenant_share_a_slot(name: str) -> None:
    subjects = [Subject(tenant=name, user=user, model=user) for user in HOSTILE]
    assert len({key_slot(key.encode()) for subject in subjects for key in _keys(subject)}) == 1


def test_no_two_names_share_a_counter() -> None:
    triples = list(itertools.product(HOSTILE, repeat=3))
    of_a_user_and_model = CompiledLimits(tuple(limit for limit in LIMITS if limit.scope is Scope.USER_MODEL))
    counters = {of_a_user_and_model.keys(*triple) for triple in triples}
    assert len(counters) == len(triples)


@pytest.mark.parametrize("name", HOSTILE)
def test_an_open_reservation_tells_who_and_which(name: str) -> None:
    assert keys.read_open_member(keys.open_member("I", name)) == ("I", name)


async def test_hostile_names_are_counted_apart_and_come_back_as_they_were(connection: RedisClient) -> None:
    reservations = RedisReservations(connection, Incarnation(connection))
    for number, name in enumerate(HOSTILE):
        record = RECORD._replace(request_id=f"R{number}", tenant=name, user=name)
        assert isinstance(await reservations.reserve(record, LIMITS, ASK), Granted), name
        await reservations.settle(record, LIMITS)
        assert [entry.record async for entry in read(connection, [name], 0, 2**52)] == [record]
    assert await tenants(connection) == sorted(HOSTILE)
