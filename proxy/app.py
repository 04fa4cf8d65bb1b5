"""
The composition root: what the gateway is made of, in the order in which it is acquired and the reverse of that in which
it is let go.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from engine.client import HttpxUpstream
from engine.process import ChildFailed
from proxy.api.health import Vitals
from proxy.api.site import admin_site, public_site
from proxy.billing.charging import charged
from proxy.billing.record import ExchangeRecord
from proxy.catalog import Catalog
from proxy.descriptors import room_for_clients
from proxy.edge.connections import Connections
from proxy.edge.guard import Edge
from proxy.errors import LedgerEmptied, LedgerUnavailable
from proxy.exchange import Exchange
from proxy.fatal import Fatal
from proxy.identity.revocation import Revoked
from proxy.identity.secret_files import cache_secret, redis_url
from proxy.identity.tokens import Verifier
from proxy.listeners import Drain, bound, served, url_of
from proxy.observe.metrics import Metrics
from proxy.replicas import launched, pooled
from proxy.settings import Settings
from proxy.settings.sections import Listen
from proxy.stages.admit import Admit
from proxy.stages.authenticate import Authenticate
from proxy.stages.meter import Meter
from proxy.stages.progress import Progress
from proxy.stages.relay import Relay
from proxy.stages.turn import Holds, TakeTurn
from proxy.store.connection import Connection, UnsafeRedis
from proxy.store.embedded import EmbeddedRedis, EmbeddedRedisUnusable
from proxy.store.ends import Ends
from proxy.store.epoch import file_of
from proxy.store.incarnation import Incarnation
from proxy.store.journal.journal import Journal
from proxy.store.lock import DataDirInUse
from proxy.store.redis_reservations import RedisReservations
from proxy.store.replay import Replay
from proxy.store.revocations import Revocations
from proxy.store.sweeper import Sweeper

_OPERATORS_MAX = 256
"""Connections to the admin listener."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running gateway answers."""

    public_url: str
    admin_url: str
    replica_urls: Mapping[str, str]
    """By replica name."""


async def run(settings: Settings, ready: Callable[[Addresses], None]) -> None:
    """
    Serve until SIGINT or SIGTERM; `ready` is called once when everything answers. A second signal cuts the drain short;
    one before `ready` gives up the start.

    Raises: `proxy.fatal.Fatal` for what only the operator can change.
    """
    with _stopping() as (stop, hurried):
        async with _given_up(stop) as started, running(settings, hurried) as addresses:
            started()
            ready(addresses)
            await stop.wait()


@asynccontextmanager
async def running(settings: Settings, hurried: asyncio.Event) -> AsyncIterator[Addresses]:
    """Run the whole gateway for the block; its drain waits no longer than until `hurried`."""
    catalog, metrics = Catalog.of(settings), Metrics(user_series_max=settings.limits.user_series_max)
    with (
        bound(settings.listen.host, settings.listen.port) as public,
        bound(settings.admin.host, settings.admin.port) as private,
    ):
        verifier = Verifier(settings, catalog, revoked := Revoked(), metrics.keys_fetched)
        secret = cache_secret(settings)
        async with (
            verifier,
            _redis(settings, metrics) as connection,
            Revocations(connection, revoked),
            Incarnation(connection, memory=file_of(settings.redis.data_dir)) as incarnation,
            launched(settings) as urls,
            HttpxUpstream(settings.limits.connect_s_max) as upstream,
            pooled(settings, urls, upstream, metrics) as pools,
        ):
            metrics.ledger_emptied(lambda: incarnation.epoch.lost)
            with suppress(LedgerEmptied):
                for tenant in settings.tenants:
                    await incarnation.serve(tenant)
            meter = Meter(metrics)
            store = RedisReservations(connection, incarnation)
            async with (
                _journal(settings, incarnation, metrics) as journal,
                _replay(store, journal, incarnation, meter),
                # After the replay: what a dead gateway wrote down is more than its last progress.
                Sweeper(connection, store, lambda record: _repriced(record, catalog), ended=meter.recovered),
                Ends(
                    store, journal, billed=meter.billed, corrected=meter.corrected, failed=metrics.settle_failed
                ) as ends,
                Progress(store, settings.ledger.progress_s) as progress,
            ):
                incarnation.when_restarted(ends.restarted)
                metrics.reservations_open(lambda: len(progress) + len(ends))
                holds = Holds()
                exchange = Exchange(
                    incarnation=incarnation.id,
                    catalog=catalog,
                    bounds=settings.limits,
                    authenticate=Authenticate(verifier),
                    admit=Admit(store, ends, holds, progress),
                    take_turn=TakeTurn(pools, holds, metrics),
                    relay=Relay(upstream, settings.limits, secret, metrics),
                    meter=meter,
                )
                listen, limits = settings.listen, settings.limits
                connections_max = room_for_clients(listen.connections_max, _OPERATORS_MAX + _sequences(settings))
                edge = _edge(listen, connections_max, listen.connections_per_address_max, metrics)
                vitals = Vitals(connection, incarnation.epoch)
                site = public_site(exchange, pools, store, vitals, edge=edge, cors_origins=listen.cors_origins)
                drain = Drain(limits.drain_s_max, limits.drain_notice_s, hurried)
                operators = _edge(listen, _OPERATORS_MAX, _OPERATORS_MAX, metrics)
                async with (
                    served(admin_site(pools, metrics), private, operators, drain=Drain(s_max=1)),
                    served(site, public, edge, keep_alive_s=listen.keep_alive_s, drain=drain),
                ):
                    yield Addresses(url_of(public), url_of(private), urls)


@asynccontextmanager
async def _redis(settings: Settings, metrics: Metrics) -> AsyncIterator[Connection]:
    """Connect to the config's Redis, or to one of our own that lives as long as the block."""
    redis = settings.redis
    async with AsyncExitStack() as stack:
        try:
            url = redis_url(settings) or (await stack.enter_async_context(EmbeddedRedis(redis.data_dir))).address
            connection = await stack.enter_async_context(
                Connection(url, deadline_s=redis.timeout_s, observe=metrics.redis)
            )
            await connection.check(allow_unsafe=redis.allow_unsafe)
        except (EmbeddedRedisUnusable, DataDirInUse, ChildFailed, UnsafeRedis, LedgerUnavailable) as error:
            raise Fatal(str(error)) from error
        yield connection


@asynccontextmanager
async def _journal(settings: Settings, incarnation: Incarnation, metrics: Metrics) -> AsyncIterator[Journal]:
    """Keep the write-ahead log of this start for the block."""
    root = settings.redis.data_dir / "journal"
    journal = Journal(root, incarnation.id, observe=metrics.journal_wrote, failed=metrics.journal_failed)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(journal)
        except OSError as error:
            raise Fatal(f"the write-ahead log cannot be kept in {root}: {error}") from error
        metrics.journal_holds(lambda: journal.unsettled, lambda: journal.size)
        yield journal


def _replay(store: RedisReservations, journal: Journal, incarnation: Incarnation, meter: Meter) -> Replay:
    replay = Replay(store, journal, incarnation.beat, billed=meter.billed, corrected=meter.corrected)
    incarnation.when_restarted(replay.restarted)
    return replay


def _repriced(record: ExchangeRecord, catalog: Catalog) -> ExchangeRecord:
    """Return a recovered record with its charge; a price that is gone since is replaced by its model's present one."""
    model = catalog.model(record.model)
    return charged(record, catalog.price(model) if model else None)


def _edge(listen: Listen, connections_max: int, per_address_max: int, metrics: Metrics) -> Edge:
    connections = Connections(connections_max, per_address_max)
    return Edge(connections=connections, head_s_max=listen.head_s_max, refused=metrics.refused)


def _sequences(settings: Settings) -> int:
    return sum(replica.sequences for model in settings.models for replica in model.replicas)


@asynccontextmanager
async def _given_up(stop: asyncio.Event) -> AsyncIterator[Callable[[], object]]:
    """Leave the block as soon as `stop` is set, unless what is yielded was called before."""
    task = asyncio.current_task()
    assert task is not None
    cut = False

    async def watch() -> None:
        nonlocal cut
        await stop.wait()
        cut = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield watcher.cancel
    except asyncio.CancelledError:
        if not cut or task.uncancel():
            raise
    finally:
        watcher.cancel()


@contextmanager
def _stopping() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Yield an event that the first SIGINT or SIGTERM sets, and one that the next sets."""
    stop, hurried, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def signalled() -> None:
        (hurried if stop.is_set() else stop).set()

    for number in signals:
        loop.add_signal_handler(number, signalled)
    try:
        yield stop, hurried
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
