"""
Who lives on this Redis, as operators see it: each gateway of the last day, and those who hold what they may use.

Must not end anything: what is told here is done by the next sweep.
"""

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum

from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.membership.incarnation import dead, living, proven_dead, tenants
from proxy.store.suspects import HeldInSilence, suspects


class StillAlive(Exception):
    """Who beats is not dead."""


class UnknownGateway(Exception):
    """No gateway of this name has run here within a day, nor holds anything."""


class Pulse(StrEnum):
    """What is known of a gateway."""

    ALIVE = "alive"
    SILENT = "silent"
    """It has not beaten for 10 s: dead, or cut off."""
    DEAD = "dead"
    """Proven."""


@dataclass(frozen=True, slots=True)
class KnownGateway:
    """One start of a gateway."""

    id: str
    state: Pulse
    seen_us: int | None
    """Its last heartbeat, in microseconds since the epoch; None where that is more than a day ago."""
    held: HeldInSilence
    """What windows keep for it while it is silent."""


async def known(connection: RedisClient) -> list[KnownGateway]:
    """Return every gateway that beat within a day or holds anything, the latest heartbeat first."""
    (_, alive), gone = await living(connection), await dead(connection)
    words = iter(await connection.call("ZREVRANGE", keys.INCARNATIONS, 0, -1, "WITHSCORES"))
    seen = {incarnation: int(float(score)) for incarnation, score in zip(words, words, strict=True)}
    held = await _held(connection)
    return [
        KnownGateway(each, _state(each, alive, gone), seen.get(each), held.get(each, HeldInSilence()))
        for each in (*seen, *sorted(held.keys() - seen))
    ]


async def forget(connection: RedisClient, incarnation: str) -> None:
    """
    Tell that a gateway is dead; the next sweep ends what it left open.

    Raises: StillAlive, UnknownGateway, LedgerUnavailable.
    """
    found = {each.id: each.state for each in await known(connection)}
    if incarnation not in found:
        raise UnknownGateway
    if found[incarnation] is Pulse.ALIVE:
        raise StillAlive
    await proven_dead(connection, [incarnation])


async def _held(connection: RedisClient) -> dict[str, HeldInSilence]:
    held: dict[str, HeldInSilence] = defaultdict(HeldInSilence)
    for tenant in await tenants(connection):
        async for each in suspects(connection, tenant):
            reservations, tokens = held[each.record.incarnation]
            held[each.record.incarnation] = HeldInSilence(reservations + 1, tokens + each.reserved)
    return held


def _state(incarnation: str, alive: frozenset[str], gone: frozenset[str]) -> Pulse:
    if incarnation in alive:
        return Pulse.ALIVE
    return Pulse.DEAD if incarnation in gone else Pulse.SILENT
