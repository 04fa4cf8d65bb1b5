"""Data that changes its server under load, with or without what was written last: every settlement is billed once."""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError

from policies.quota import Ask, Granted, Limit, Per, Scope, Subject, Unit
from proxy.billing.record import ExchangeRecord
from proxy.errors import LedgerUnavailable
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.journal.journal import Journal
from proxy.store.ledger import read
from proxy.store.membership.incarnation import Incarnation
from proxy.store.outbox.end import Release, Settle
from proxy.store.outbox.outbox import Outbox
from proxy.store.outbox.replay import Replay
from proxy.store.redis_reservations import RedisReservations
from proxy.ulids import new_ulid
from tests.records import RECORD
from tests.redis_fleets import Node, cluster, cut_off, move_slot, until, watched
from tests.redis_server import EACH_SERVER

LIMITS = (Limit(Scope.TENANT, Unit.TOKENS, 100_000_000, Per.DAY), Limit(Scope.USER, Unit.CONCURRENT, 1_000, None))
ASK = Ask(prompt_tokens=100, choices=1, max_completion=900, min_completion=256, hold_us=5_000_000)
TOKENS = RECORD.prompt_tokens + RECORD.completion_tokens
CLIENTS = 16

Fleet = Callable[[Path, Path | None], AbstractContextManager[tuple[str, Node, Node, list[str]]]]
"""Runs servers; gives their URL, the primary that dies, its replica, and tenants of all primaries."""


class Gateway:
    """What of a gateway serves exchanges in Redis, under a load of its own."""

    def __init__(self, connection: RedisClient, incarnation: Incarnation, folder: Path) -> None:
        self.connection = connection
        self.store = RedisReservations(connection, incarnation)
        self.journal = Journal(folder, incarnation.id)
        self.told: list[str] = []
        self.outbox = Outbox(
            self.store, self.journal, billed=self._tell, corrected=self._tell, failed=lambda: None, retry_s=0.1
        )
        self.replay = Replay(
            self.store, self.journal, incarnation.beat, billed=self._tell, corrected=self._tell, retry_s=0.1
        )
        self.settled: list[ExchangeRecord] = []
        self.restarts = 0
        for each in (self.replay, self.outbox, self):
            incarnation.when_restarted(each.restarted)
        self._incarnation = incarnation

    def restarted(self) -> None:
        """Count how often another server was found."""
        self.restarts += 1

    def _tell(self, record: ExchangeRecord) -> None:
        self.told.append(record.request_id)

    async def exchange(self, tenant: str) -> bool:
        """Serve one exchange; tell whether it was admitted."""
        record = RECORD._replace(
            request_id=new_ulid(),
            tenant=tenant,
            incarnation=self._incarnation.id,
            started_at=time.time_ns() // 1_000,
        )
        try:
            assert isinstance(await self.store.reserve(record, LIMITS, ASK, once=record.request_id), Granted)
        except LedgerUnavailable:
            await self.outbox.release(Release(record, LIMITS))
            await asyncio.sleep(0.02)
            return False
        if await self.outbox.settle(Settle(record, LIMITS, held=0)):
            self.told.append(record.request_id)
        self.settled.append(record)
        return True

    @asynccontextmanager
    async def loaded(self, tenants: Sequence[str]) -> AsyncIterator[None]:
        """Serve one exchange after the other for the block, for each of many clients."""
        ended = False

        async def serve(number: int) -> None:
            while not ended:
                await self.exchange(tenants[number % len(tenants)])

        tasks = [asyncio.create_task(serve(number)) for number in range(CLIENTS)]
        try:
            yield
        finally:
            ended = True
            await asyncio.gather(*tasks)

    @property
    def quiet(self) -> bool:
        """Whether Redis has all that is settled, as far as this gateway knows."""
        doubted = self.replay._lost or any(segment.doubted for segment in self.journal.segments)
        return self.restarts > 0 and not len(self.outbox) and not doubted

    async def has_all(self, tenants: Sequence[str]) -> bool:
        """Tell whether the ledger has what was settled: the log is looked through for it, and nobody says when."""
        return await rows(self.connection, tenants) >= Counter(record.request_id for record in self.settled)

    async def assert_billed_once(self, tenants: Sequence[str]) -> None:
        """Look whether ledger, counters and what was told say the same: each settlement once, and nothing else."""
        ids = Counter(record.request_id for record in self.settled)
        assert await rows(self.connection, tenants) == ids
        assert Counter(self.told) == ids
        for tenant in tenants:
            statuses = await self.store.statuses(Subject(tenant=tenant, user="ada", model="demo"), LIMITS)
            served = [record for record in self.settled if record.tenant == tenant]
            assert [status.used for status in statuses] == [TOKENS * len(served), 0]

    async def more(self, count: int) -> None:
        """Wait for this many settlements more."""
        before = len(self.settled)
        while len(self.settled) < before + count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def gateway(url: str, folder: Path) -> AsyncIterator[Gateway]:
    """Run a gateway's store for the block."""
    async with RedisClient(url, deadline_s=2.0) as connection, Incarnation(connection, beat_s=0.2) as incarnation:
        made = Gateway(connection, incarnation, folder)
        async with made.journal, made.replay, made.outbox:
            yield made


@contextmanager
def primary_behind_sentinels(folder: Path, server: Path | None) -> Iterator[tuple[str, Node, Node, list[str]]]:
    with watched(folder, server) as servers:
        yield servers.url, servers.primary, servers.replica, ["acme", "globex"]


@contextmanager
def primary_in_a_cluster(folder: Path, server: Path | None) -> Iterator[tuple[str, Node, Node, list[str]]]:
    with cluster(folder, server) as nodes:
        yield nodes.url, nodes.primary, nodes.replica, [nodes.tenant_on(index) for index in (2, 1, 0)]


@pytest.mark.parametrize("server", EACH_SERVER)
@pytest.mark.parametrize("fleet", [primary_behind_sentinels, primary_in_a_cluster])
async def test_what_a_failover_loses_is_billed_once(fleet: Fleet, server: Path | None, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tw-") as folder, fleet(Path(folder), server) as found:
        url, primary, replica, tenants = found
        async with gateway(url, tmp_path / "journal") as one, asyncio.timeout(90):
            async with one.loaded(tenants):
                await one.more(300)
                await asyncio.to_thread(cut_off, primary, replica)
                await one.more(300)
                written = (await rows(one.connection, tenants[:1])).total()
                primary.kill()
                assert _rows_of(replica, tenants[0]) < written - 50, "else there is nothing to bill again"
                await asyncio.to_thread(until, lambda: replica.info("replication")["role"] == "master")
                await one.more(300)
            while not (one.quiet and await one.has_all(tenants)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await one.assert_billed_once(tenants)


@pytest.mark.parametrize("server", EACH_SERVER)
async def test_a_slot_that_moves_under_load_changes_no_bill(server: Path | None, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tw-") as folder, cluster(Path(folder), server) as nodes:
        tenants = [nodes.tenant_on(index) for index in (2, 0)]
        async with gateway(nodes.url, tmp_path / "journal") as one, asyncio.timeout(90):
            async with one.loaded(tenants):
                await one.more(300)
                for there, back in (nodes.primaries[2:0:-1], nodes.primaries[1:3]):
                    await asyncio.to_thread(move_slot, nodes, there, back, key_slot(tenants[0].encode()))
                    await one.more(100)
            while len(one.outbox):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await one.assert_billed_once(tenants)


def _rows_of(replica: Node, tenant: str) -> int:
    with Redis(port=replica.port, single_connection_client=True) as client:
        with suppress(ResponseError):
            client.execute_command("READONLY")  # which only a cluster's replica knows
        return int(client.xlen(keys.ledger(tenant)))


async def rows(connection: RedisClient, tenants: Sequence[str]) -> Counter[str]:
    """Count the rows of the ledger by their request."""
    return Counter([entry.record.request_id async for entry in read(connection, tenants, 0, 2**52)])
