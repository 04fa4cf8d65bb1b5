"""A whole gateway without a socket: the real stages over a book in memory, played replicas and played clients."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from engine.fleet.pool import Pool
from engine.fleet.replica import Replica
from engine.protocols.base import ApiProtocol
from engine.protocols.chat import CHAT
from policies.estimate import HoldTimes
from policies.quota import LimitStatus, Scope, Subject
from proxy.catalog import Catalog
from proxy.exchange import Exchange
from proxy.identity.development import mint
from proxy.identity.tokens import Verifier
from proxy.in_force import Config, InForce
from proxy.observe.metrics import Metrics
from proxy.settings import Settings
from proxy.settings.loading import parse
from proxy.stages.admit import Admit
from proxy.stages.meter import Meter
from proxy.stages.progress import Progress
from proxy.stages.relay import Relay
from proxy.stages.turn import Turns
from proxy.store.outbox.outbox import Outbox
from proxy.store.outbox.replay import Replay
from tests.exposition import total
from tests.unit.proxy.memory_journal import MemoryJournal
from tests.unit.proxy.memory_reservations import NOW_US, MemoryReservations
from tests.unit.proxy.played_client import PlayedClient
from tests.unit.proxy.played_upstream import Answer, PlayedUpstream

CONFIG = """
[[auth.issuers]]
issuer = "dev"
algorithms = ["HS256"]
development = true
scopes = ["usage:self", "usage:read", "usage:all"]

[[models]]
name = "demo"
aliases = ["gpt-4o-mini"]
context_tokens = 4096
template_tokens = 10
default_completion = 512
min_completion = 16
endpoints = ["chat", "completions", "embeddings"]
replicas = [{ name = "a", url = "http://a", sequences = 4 }, { name = "b", url = "http://b", sequences = 4 }]

[[models]]
name = "secret"
context_tokens = 4096
endpoints = ["chat"]
replicas = [{ name = "s", url = "http://s", sequences = 4 }]

[plans.pro]
models = ["demo"]
limits = [
    { scope = "user", unit = "tokens", amount = 10_000, per = "day" },
    { scope = "user", unit = "requests", amount = 100, per = "day" },
    { scope = "user", unit = "concurrent", amount = 3 },
]

[plans.free]
models = ["demo"]
limits = [{ scope = "user", unit = "tokens", amount = 100, per = "minute" }]

[tenants]
acme.plans = ["pro", "free"]
globex.plans = ["pro"]

[[prices]]
model = "demo"
version = "7"
currency = "EUR"
prompt = 1_000_000
cached = 500_000
completion = 2_000_000

[limits]
body_bytes_max = 100_000
"""
CHAT_BODY = {"model": "demo", "messages": [{"role": "user", "content": "hello world"}], "max_tokens": 100}
STREAM_BODY = CHAT_BODY | {"stream": True}
TURNS_MAX = 10_000
"""Turns of the event loop within which anything that can happen has happened."""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """The stages and everything under them."""

    settings: Settings
    catalog: Catalog
    store: MemoryReservations
    upstream: PlayedUpstream
    metrics: Metrics
    pools: dict[str, Pool]
    holds: HoldTimes
    progress: Progress
    journal: MemoryJournal
    outbox: Outbox
    replay: Replay
    exchange: Exchange

    def token(self, tenant: str = "acme", user: str = "ada", plan: str | None = None, **more: Any) -> str:
        """Return a token that the gateway believes."""
        return mint(self.settings, tenant=tenant, user=user, plan=plan, **more)

    def client(self, body: dict[str, Any] | bytes = b"", *, plan: str | None = None, **options: Any) -> PlayedClient:
        """Return a client of acme's that asks this."""
        headers = {"authorization": f"Bearer {self.token(plan=plan)}"} | options.pop("headers", {})
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        return PlayedClient(encoded, headers, **options)

    async def serve(
        self, client: PlayedClient, protocol: ApiProtocol = CHAT, *, write_s_max: float = 5.0
    ) -> PlayedClient:
        """Serve one client to its end."""
        await self.exchange(protocol, client.downstream(write_s_max=write_s_max))
        return client

    async def ask(self, body: dict[str, Any] | bytes, protocol: ApiProtocol = CHAT, **options: Any) -> PlayedClient:
        """Serve a client that asks this."""
        return await self.serve(self.client(body, **options), protocol)

    def statuses(self, plan: str = "pro") -> dict[str, LimitStatus]:
        """Return how ada's limits stand, by scope and unit."""
        found = self.catalog.plan("acme", plan)
        assert found is not None
        subject = Subject(tenant="acme", user="ada", model="demo")
        assert all(limit.scope is Scope.USER for limit in found.limits)
        return {status.limit.unit.value: status for status in self.store.book.statuses(subject, found.limits, NOW_US)}

    def used(self) -> dict[str, int]:
        """Return what ada has used and holds, by unit."""
        return {unit: status.used for unit, status in self.statuses().items()}

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        return total(self.metrics.render()[0].decode(), name, **labels)

    def assert_nothing_is_held(self) -> None:
        """Assert that whatever was acquired was let go."""
        assert self.store.pending == []
        self.assert_no_place_is_held()

    def assert_no_place_is_held(self) -> None:
        """Assert that no replica, connection, gauge or cancellation is left behind."""
        replicas = [replica.snapshot() for pool in self.pools.values() for replica in pool]
        assert {(replica.inflight_sequences, replica.inflight_tokens) for replica in replicas} == {(0, 0)}
        assert self.upstream.open == 0
        assert self.metric("tollway_inflight_requests") == 0
        assert self.metric("tollway_reservations_open") == 0
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def until(ready: Callable[[], object]) -> None:
    """Let everything else run until `ready()`."""
    for _ in range(TURNS_MAX):
        if ready():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


def gateway(folder: Path, *, config: str = CONFIG, down: tuple[str, ...] = (), **answers: list[Answer]) -> Gateway:
    """Put a gateway together whose replicas give these answers."""
    settings = parse(config, {}, folder=folder)
    catalog, store, metrics = Catalog.of(settings), MemoryReservations(), Metrics()
    upstream, holds = PlayedUpstream(**answers), HoldTimes()
    pools = {
        model.name: Pool(
            model.name,
            [
                Replica(
                    each.name,
                    f"http://{each.name}",
                    each.sequences,
                    abort_path=each.abort_path,
                    serves=each.upstream_model or "",
                    healthy=each.name not in down,
                )
                for each in model.replicas
            ],
        )
        for model in settings.models
    }
    for pool in pools.values():
        for replica in pool:
            metrics.inflight(pool.model, replica.name, partial(len, replica.leases))
    progress = Progress(store, beat_s=3600)
    journal = MemoryJournal()
    meter = Meter(metrics)
    outbox = Outbox(store, journal, billed=metrics.billed, corrected=meter.corrected, failed=metrics.settle_failed)
    metrics.reservations_open(lambda: len(progress) + len(outbox))
    turns = Turns(pools, holds, metrics)
    exchange = Exchange(
        incarnation="01JC0000000000000000000000",
        in_force=InForce(Config.of(settings, catalog, Verifier.of(settings, catalog))),
        admit=Admit(store, outbox, holds),
        turns=turns,
        relay=Relay(upstream, b"secret" * 8),
        outbox=outbox,
        progress=progress,
        meter=meter,
        learns=(turns.learn,),
    )
    return Gateway(
        settings=settings,
        catalog=catalog,
        store=store,
        upstream=upstream,
        metrics=metrics,
        pools=pools,
        holds=holds,
        progress=progress,
        journal=journal,
        outbox=outbox,
        replay=Replay(store, journal, journal.beat, billed=metrics.billed, corrected=meter.corrected),
        exchange=exchange,
    )
