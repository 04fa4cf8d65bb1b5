"""
The store as the config says it: which Redis, the log on this gateway's disk, and who brings every settlement home.

Each is a block; `app.py` puts them in their order.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from engine.runtime.process import ChildFailed
from proxy.errors import LedgerEmptied, LedgerUnavailable
from proxy.fatal import Fatal
from proxy.identity.secret_files import redis_access
from proxy.observe.metrics import Metrics
from proxy.redis.client import RedisClient, UnsafeRedis
from proxy.redis.embedded.binary import EmbeddedRedisUnusable
from proxy.redis.embedded.lock import DataDirInUse
from proxy.redis.embedded.server import EmbeddedRedis
from proxy.redis.refusal import RedisRefusal
from proxy.settings import Settings
from proxy.stages.meter import Meter
from proxy.store.journal.journal import Journal
from proxy.store.membership.generation import file_of
from proxy.store.membership.incarnation import Incarnation, proven_dead
from proxy.store.outbox.outbox import Outbox
from proxy.store.outbox.replay import Replay
from proxy.store.redis_reservations import RedisReservations
from proxy.store.sweeper import Sweeper


@asynccontextmanager
async def embedded(settings: Settings) -> AsyncIterator[Settings]:
    """
    Run a Redis of our own for the block where the config names none; yield a config that names it.

    Raises: Fatal.
    """
    section = settings.redis
    if section.url is not None:
        yield settings
        return
    async with AsyncExitStack() as stack:
        try:
            started = await stack.enter_async_context(EmbeddedRedis(section.data_dir))
        except (EmbeddedRedisUnusable, DataDirInUse, ChildFailed) as error:
            raise Fatal(str(error)) from error
        yield settings.model_copy(update={"redis": section.model_copy(update={"url": started.address})})


@asynccontextmanager
async def redis(settings: Settings, metrics: Metrics) -> AsyncIterator[RedisClient]:
    """
    Connect to the config's Redis, or to one of our own that lives as long as the block.

    Raises: Fatal.
    """
    section = settings.redis
    async with AsyncExitStack() as stack:
        url = (await stack.enter_async_context(embedded(settings))).redis.url
        assert url is not None
        try:
            connection = await stack.enter_async_context(
                RedisClient(
                    url,
                    access=redis_access(settings),
                    deadline_s=section.timeout_s,
                    observe=metrics.redis,
                    failed=metrics.redis_failed,
                )
            )
            await connection.check(allow_unsafe=section.allow_unsafe)
        except UnsafeRedis as error:
            raise Fatal(str(error)) from error
        except LedgerUnavailable as error:
            refusal = RedisRefusal.of(error.__cause__) if error.__cause__ else None
            words = "Redis does not answer" if refusal is None else refusal.words
            raise Fatal(f"{words}: {error.__cause__}") from error
        yield connection


@asynccontextmanager
async def incarnated(settings: Settings, connection: RedisClient, metrics: Metrics) -> AsyncIterator[Incarnation]:
    """
    Live in Redis for the block, with every tenant of the config in its registry.

    Raises: LedgerUnavailable.
    """
    async with Incarnation(connection, memory=file_of(settings.redis.data_dir)) as incarnation:
        metrics.ledger_emptied(lambda: incarnation.generation.lost)
        with suppress(LedgerEmptied):
            for tenant in settings.tenants:
                await incarnation.serve(tenant)
        yield incarnation


@asynccontextmanager
async def journalled(root: Path, incarnation: Incarnation, metrics: Metrics) -> AsyncIterator[Journal]:
    """
    Keep the write-ahead log of this start for the block.

    Raises: Fatal.
    """
    journal = Journal(root, incarnation.id, observe=metrics.journal_wrote, failed=metrics.journal_failed)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(journal)
        except OSError as error:
            raise Fatal(f"the write-ahead log cannot be kept in {root}: {error}") from error
        metrics.journal_holds(lambda: journal.unsettled, lambda: journal.size)
        yield journal


@asynccontextmanager
async def settling(
    connection: RedisClient,
    store: RedisReservations,
    journal: Journal,
    *,
    incarnation: Incarnation,
    meter: Meter,
    metrics: Metrics,
) -> AsyncIterator[Outbox]:
    """Bring every settlement home for the block: this gateway's, and those of gateways that died."""
    replay = Replay(
        store,
        journal,
        incarnation.beat,
        buried=partial(proven_dead, connection),
        billed=meter.billed,
        corrected=meter.corrected,
    )
    outbox = Outbox(store, journal, billed=meter.billed, corrected=meter.corrected, failed=metrics.settle_failed)
    incarnation.when_restarted(replay.restarted)
    incarnation.when_restarted(outbox.restarted)
    async with (
        replay,
        # After the replay: what a dead gateway wrote down is more than its last progress.
        Sweeper(connection, store, ended=meter.recovered, suspect=metrics.suspect),
        outbox,
    ):
        yield outbox
