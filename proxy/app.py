"""
The composition root: what the gateway is made of, in the order in which it is acquired and the reverse of that in which
it is let go. `replicas.py` and `storage.py` say how each half of it is made from the config.
"""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from engine.client import HttpxUpstream
from proxy.api.health import Vitals
from proxy.api.site import admin_site, public_site
from proxy.catalog import Catalog
from proxy.descriptors import room_for_clients
from proxy.edge.connections import Connections
from proxy.edge.guard import Edge
from proxy.exchange import Exchange
from proxy.identity.revocation import Revoked
from proxy.identity.secret_files import cache_secret
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
from proxy.stages.turn import HoldTimes, TakeTurn
from proxy.storage import incarnated, journalled, redis, settling
from proxy.store.redis_reservations import RedisReservations
from proxy.store.revocations import Revocations

_OPERATORS_MAX = 256
"""Connections to the admin listener."""
_ALLOCATIONS_A_SEARCH = 50_000
"""Objects made and not yet freed between two searches for garbage in cycles; some 5 MB."""


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
            _spare_collector()
            ready(addresses)
            await stop.wait()


def _spare_collector() -> None:
    """
    Let the garbage collector pass over what lives as long as the gateway, and look for cycles less often.

    A request leaves almost none; at Python's own threshold the search for them takes an eighth of all time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_A_SEARCH)


@asynccontextmanager
async def running(settings: Settings, hurried: asyncio.Event) -> AsyncIterator[Addresses]:
    """Run the whole gateway for the block; its drain waits no longer than until `hurried`."""
    listen, limits = settings.listen, settings.limits
    catalog, metrics = Catalog.of(settings), Metrics(user_series_max=limits.user_series_max)
    meter, holds, revoked = Meter(metrics), HoldTimes(), Revoked()
    with (
        bound(listen.host, listen.port) as public,
        bound(settings.admin.host, settings.admin.port) as private,
    ):
        verifier = Verifier(settings, catalog, revoked, metrics.keys_fetched)
        secret = cache_secret(settings)
        async with (
            verifier,
            redis(settings, metrics) as connection,
            Revocations(connection, revoked),
            incarnated(settings, connection, metrics) as incarnation,
            launched(settings) as urls,
            HttpxUpstream(limits.connect_s_max) as upstream,
            pooled(settings, urls, upstream, metrics) as pools,
            journalled(settings.redis.data_dir / "journal", incarnation, metrics) as journal,
        ):
            store = RedisReservations(connection, incarnation)
            async with (
                settling(connection, store, journal, incarnation=incarnation, meter=meter, metrics=metrics) as ends,
                Progress(store, settings.ledger.progress_s) as progress,
            ):
                metrics.reservations_open(lambda: len(progress) + len(ends))
                exchange = Exchange(
                    incarnation=incarnation.id,
                    catalog=catalog,
                    bounds=limits,
                    authenticate=Authenticate(verifier),
                    admit=Admit(store, ends, holds, progress),
                    take_turn=TakeTurn(pools, holds, metrics),
                    relay=Relay(upstream, limits, secret, metrics),
                    meter=meter,
                )
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
