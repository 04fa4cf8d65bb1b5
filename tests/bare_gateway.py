"""A gateway of now as far as it settles, sweeps and reports, and one of the next version."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from policies.quota import Ask, Granted, Limit, Subject
from proxy import versions
from proxy.billing.record import ExchangeRecord
from proxy.redis.client import RedisClient
from proxy.redis.script import Script
from proxy.store import keys, ledger, scripts
from proxy.store.journal import lines
from proxy.store.journal.journal import Journal
from proxy.store.membership.incarnation import Incarnation, proven_dead, tenants
from proxy.store.outbox.replay import Replay
from proxy.store.redis_reservations import RedisReservations
from proxy.store.sweeper import Sweeper
from tests.records import RECORD

LONG_AGO_US = 20_000_000
"""Longer than a gateway may be silent."""


class BareGateway:
    """A gateway without its listeners."""

    def __init__(self, connection: RedisClient, incarnation: Incarnation, journal: Journal) -> None:
        self.connection = connection
        self.incarnation = incarnation
        self.journal = journal
        self.store = RedisReservations(connection, incarnation)
        self.sweeper = Sweeper(connection, self.store)
        self.billed: list[str] = []
        self.corrected: list[str] = []

    @asynccontextmanager
    async def replaying(self) -> AsyncIterator[None]:
        replay = Replay(
            self.store,
            self.journal,
            self.incarnation.beat,
            buried=partial(proven_dead, self.connection),
            billed=lambda record: self.billed.append(record.request_id),
            corrected=lambda record: self.corrected.append(record.request_id),
        )
        async with replay:
            yield

    async def rows(self) -> list[tuple[str, ExchangeRecord]]:
        every = await tenants(self.connection)
        return [(entry.kind, entry.record) async for entry in ledger.read(self.connection, every, 0, ledger.NEVER_US)]

    async def used(self, subject: dict[str, str], limits: tuple[Limit, ...]) -> list[int]:
        return [status.used for status in await self.store.statuses(Subject(**subject), limits)]


@asynccontextmanager
async def bare_gateway(connection: RedisClient, data_dir: Path) -> AsyncIterator[BareGateway]:
    async with (
        Incarnation(connection, beat_s=3600, memory=data_dir / "epoch") as incarnation,
        Journal(data_dir / "journal", incarnation.id) as journal,
    ):
        yield BareGateway(connection, incarnation, journal)


def exchange(gateway: BareGateway, request_id: str) -> ExchangeRecord:
    started_at = time.time_ns() // 1_000
    return RECORD._replace(request_id=request_id, incarnation=gateway.incarnation.id, started_at=started_at)


async def reserved(gateway: BareGateway, request_id: str, limits: tuple[Limit, ...]) -> ExchangeRecord:
    """Reserve, note some progress, and let it be long ago."""
    record = exchange(gateway, request_id)
    ask = Ask(prompt_tokens=100, choices=1, max_completion=900, min_completion=256, hold_us=5_000_000)
    assert isinstance(await gateway.store.reserve(record, limits, ask), Granted)
    await gateway.store.trim(record, limits, 10)
    await gateway.store.progress(record._replace(prompt_tokens=90, completion_tokens=40))
    member = keys.open_member(gateway.incarnation.id, request_id)
    await gateway.connection.call("ZINCRBY", keys.open_index("acme"), -LONG_AGO_US, member)
    return record


async def dies(gateway: BareGateway) -> None:
    await proven_dead(gateway.connection, [gateway.incarnation.id])


@contextmanager
def newer() -> Iterator[None]:
    """Be the next version for the block, which reads this one too; all that it changes is the number."""
    number = versions.WRITTEN
    now, then = (f"local VERSION, MARK = {each}, 'v{each}'" for each in (number, number + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "WRITTEN", number + 1)
        patch.setattr(versions, "READ", frozenset({number, number + 1}))
        patch.setattr(lines, "_VERSION", b"%d" % (number + 1))
        patch.setattr(lines, "_SEED", lines._seed(b"%d" % (number + 1)))
        for name, script in [*vars(scripts).items()]:
            if isinstance(script, Script):
                patch.setattr(scripts, name, Script(script.name, script.text.replace(now, then)))
        assert then in scripts.SETTLE.text
        yield
