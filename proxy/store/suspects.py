"""
What is SUSPECT: open reservations whose gateway nobody hears of, and which may serve them still.

A gateway that misses its heartbeats may be dead, or only cut off from Redis while its streams go on. Until that is
known (lua/quota/suspect.lua) windows keep what it reserved, so that nobody else is given it too.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import NamedTuple

from policies.book import CounterId, place
from policies.quota import Limit, LimitKind, Subject, Unit
from proxy.billing.record import ExchangeRecord
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.open_reservation import OpenReservation, held_by

KNOWN_MS = 60_000
"""How long it is known what the last sweep found."""
BATCH = 100
COUNTED_MAX = 10_000
"""Of one tenant."""


class Suspect(NamedTuple):
    """One request that may be served still."""

    record: ExchangeRecord
    """As far as it is known."""
    limits: tuple[Limit, ...]
    reserved: int
    """The tokens that windows keep for it."""


class HeldInSilence(NamedTuple):
    """What windows keep for those who may serve still."""

    reservations: int = 0
    tokens: int = 0


Suspects = Callable[[str], AsyncIterator[Suspect]]
"""Yields what is SUSPECT of a tenant."""


async def suspects(connection: RedisClient, tenant: str) -> AsyncIterator[Suspect]:
    """Yield what is SUSPECT of a tenant, as far as it can be read; raise LedgerUnavailable."""
    members = await connection.call("ZRANGE", keys.suspect_index(tenant), 0, COUNTED_MAX - 1)
    for first in range(0, len(members), BATCH):
        ids = [keys.read_open_member(member)[1] for member in members[first : first + BATCH]]
        for text in await connection.call("MGET", *(keys.reservation(tenant, request_id) for request_id in ids)):
            try:
                known = OpenReservation.read(text or "")
            except ValueError:
                # Ended meanwhile, or a newer gateway's.
                continue
            yield Suspect(known.record, known.limits, held_by(text))


async def held(connection: RedisClient, tenant: str) -> HeldInSilence:
    """Return what windows keep so of a tenant; raise LedgerUnavailable."""
    found = [each.reserved async for each in suspects(connection, tenant)]
    return HeldInSilence(len(found), sum(found))


async def tell(connection: RedisClient, found: HeldInSilence) -> None:
    """Let all gateways know what a sweep found."""
    await connection.call("SET", keys.SUSPECT, f"{found.reservations} {found.tokens}", "PX", KNOWN_MS)


async def told(connection: RedisClient) -> HeldInSilence:
    """Return what the last sweep found."""
    words = (await connection.call("GET", keys.SUSPECT) or "0 0").split()
    return HeldInSilence(int(words[0]), int(words[1]))


def held_of(found: Iterable[Suspect], tenant: str) -> Counter[CounterId]:
    """Return what each window of a tenant keeps so, in its own unit."""
    kept: Counter[CounterId] = Counter()
    for each in found:
        subject = Subject(tenant=tenant, user=each.record.user, model=each.record.model)
        for limit in each.limits:
            if limit.kind is LimitKind.WINDOW:
                kept[place(limit, subject)] += each.reserved if limit.unit is Unit.TOKENS else 1
    return kept
