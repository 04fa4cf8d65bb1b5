"""
The composition root: what the gateway is made of, in the order in which it is acquired and the reverse of that in which
it is let go. `compose/fleet.py` and `compose/storage.py` say how each half of it is made from the config.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from litestar.types import ASGIApp

from engine.fleet.pool import Pool
from engine.protocols import normal
from engine.runtime.background import Background
from engine.runtime.memory import give_back_large_blocks
from engine.wire.client import DirectUpstream
from policies.estimate import HoldTimes
from proxy.api.admin import GatewayState, Operations, OwnState, Shown
from proxy.api.health import Vitals
from proxy.api.reports import BATCH, Between, Reports
from proxy.api.site import admin_site, public_site
from proxy.catalog import Catalog
from proxy.compose import followers
from proxy.compose.fleet import launched, pooled
from proxy.compose.own_config import OwnConfig
from proxy.compose.reload import ConfigSource, Reload
from proxy.compose.storage import incarnated, journalled, redis, settling
from proxy.edge.connections import Connections
from proxy.edge.edge import Edge
from proxy.edge.forwarded import networks
from proxy.exchange import Exchange
from proxy.http.listeners import Drain, bound, served, url_of
from proxy.identity.revocation import Revoked
from proxy.identity.secret_files import cache_secret
from proxy.identity.tokens import Verifier
from proxy.in_force import Config, InForce
from proxy.observe.metrics import Metrics
from proxy.redis.client import RedisClient
from proxy.settings import Settings
from proxy.stages.admit import Admit
from proxy.stages.meter import Meter
from proxy.stages.progress import Progress
from proxy.stages.relay import Relay
from proxy.stages.turn import Turns
from proxy.store.ledger_rows import LedgerRows
from proxy.store.membership.generation import Generation
from proxy.store.redis_reservations import RedisReservations
from proxy.store.revocations import Revocations

_OPERATORS_MAX = 256
"""Connections to the admin listener."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running gateway answers."""

    public_url: str
    admin_url: str
    replica_urls: Mapping[str, str]
    """By replica name."""
    troubles: Mapping[str, str] = field(default_factory=dict)
    """Why a replica is given no work, by its name; nothing of those that are."""

    def found(self, replicas: Iterable[Shown]) -> "Addresses":
        """Return the same with what is wrong with the replicas as they stand."""
        return replace(self, troubles={each["name"]: each["cause"] for each in replicas if not each["healthy"]})


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that could serve, and has no socket yet."""

    site: ASGIApp
    edge: Edge
    config: OwnConfig
    replica_urls: Mapping[str, str]
    """At the start."""
    incarnation: str

    @property
    def pools(self) -> Mapping[str, Pool]:
        """Return every model's replicas."""
        return self.config.fleet.pools

    def served(
        self, listening: socket.socket, settings: Settings, hurried: asyncio.Event
    ) -> AbstractAsyncContextManager[None]:
        """Serve clients for the block; its drain waits no longer than until `hurried`."""
        drain = Drain(0, hurried=hurried)
        self.config.in_force.follow(partial(followers.drain, drain))
        return served(self.site, listening, self.edge, keep_alive_s=settings.listen.keep_alive_s, drain=drain)


@asynccontextmanager
async def running(source: ConfigSource, hurried: asyncio.Event) -> AsyncIterator[Addresses]:
    """Run the whole gateway in this process for the block; its drain waits no longer than until `hurried`."""
    settings = source.settings
    metrics = Metrics(user_series_max=settings.limits.user_series_max)
    with (
        bound(settings.listen.host, settings.listen.port) as public,
        bound(settings.admin.host, settings.admin.port) as private,
    ):
        async with gateway(settings, metrics) as made:
            reload, state = Reload(source, made.config, metrics), OwnState(made.pools, metrics)
            async with (
                operated(state, reload, private, settings=settings, metrics=metrics),
                made.served(public, settings, hurried),
                Background(reload.whenever_asked, "tollway-reload"),
            ):
                addresses = Addresses(url_of(public), url_of(private), made.replica_urls)
                yield addresses.found(await state.replicas())


@asynccontextmanager
async def gateway(settings: Settings, metrics: Metrics) -> AsyncIterator[Gateway]:
    """Have everything that serving takes for the block."""
    give_back_large_blocks()
    normal.prepare()
    listen, limits = settings.listen, settings.limits
    catalog = Catalog.of(settings)
    meter, holds, revoked = Meter(metrics), HoldTimes(), Revoked()
    verifier = Verifier.of(settings, catalog, revoked, metrics.keys_fetched)
    secret = cache_secret(settings)
    async with (
        verifier,
        redis(settings, metrics) as connection,
        Revocations(connection, revoked),
        incarnated(settings, connection, metrics) as incarnation,
        launched(settings) as ours,
        DirectUpstream(limits.connect_s_max) as upstream,
        pooled(settings, urls := ours.places(settings).urls, upstream, metrics, left=ours.left) as fleet,
        journalled(settings.redis.data_dir / "journal", incarnation, metrics) as journal,
    ):
        store = RedisReservations(connection, incarnation)
        async with (
            settling(connection, store, journal, incarnation=incarnation, meter=meter, metrics=metrics) as outbox,
            Progress(store, settings.ledger.progress_s) as progress,
        ):
            metrics.reservations_open(lambda: len(progress) + len(outbox))
            in_force = InForce(Config.of(settings, catalog, verifier))
            turns = Turns(fleet.pools, holds, metrics)
            exchange = Exchange(
                incarnation=incarnation.id,
                in_force=in_force,
                admit=Admit(store, outbox, holds),
                turns=turns,
                relay=Relay(upstream, secret),
                outbox=outbox,
                progress=progress,
                meter=meter,
                learns=(turns.learn,),
            )
            edge = _edge(settings, listen.connections_max, listen.connections_per_address_max, metrics)
            in_force.follow(partial(followers.bounds, edge=edge, upstream=upstream, metrics=metrics))
            in_force.follow(followers.Room(edge.connections, _OPERATORS_MAX).make)
            vitals = Vitals(incarnation, journal)
            reports = _reports(connection, incarnation.generation)
            site = public_site(
                exchange, fleet.pools, store, vitals, edge=edge, reports=reports, cors_origins=listen.cors_origins
            )
            yield Gateway(site, edge, OwnConfig(in_force, fleet, ours, incarnation), urls, incarnation.id)


def operated(
    state: GatewayState, reload: Reload, listening: socket.socket, *, settings: Settings, metrics: Metrics
) -> AbstractAsyncContextManager[None]:
    """Serve operators for the block."""
    edge = _edge(settings, _OPERATORS_MAX, _OPERATORS_MAX, metrics)
    site = admin_site(Operations(state, reload, settings.admin.names))
    return served(site, listening, edge, drain=Drain(s_max=1))


def _reports(connection: RedisClient, generation: Generation) -> Reports:
    """Return what reads the ledger, and nothing where it would read zeros of a Redis that lost it."""

    def rows(between: Between) -> LedgerRows:
        generation.check()
        return LedgerRows(connection, batch=BATCH, between=between)

    return Reports(rows)


def _edge(settings: Settings, connections_max: int, per_address_max: int, metrics: Metrics) -> Edge:
    return Edge(
        connections=Connections(connections_max, per_address_max),
        head_s_max=settings.listen.head_s_max,
        trusted_proxies=networks(settings.listen.trusted_proxies),
        write_s_max=settings.limits.write_s_max,
        refused=metrics.refused,
    )
