"""One gateway process of a world: every production object of `proxy.app.gateway` that needs no socket."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from engine.protocols.chat import CHAT
from policies.estimate import HoldTimes
from policies.pricing import Price
from policies.quota import Ask, Granted, Limit, Refused, Repeated
from proxy.billing.record import ExchangeRecord
from proxy.catalog import Catalog
from proxy.compose.fleet import pooled
from proxy.compose.storage import settling
from proxy.edge.bodies import Bodies
from proxy.errors import LedgerUnavailable
from proxy.exchange import Exchange
from proxy.identity.principal import Principal
from proxy.identity.tokens import Verifier
from proxy.in_force import Config, InForce
from proxy.observe.metrics import Metrics
from proxy.settings import Settings
from proxy.stages.admit import Admit
from proxy.stages.meter import Meter
from proxy.stages.progress import Progress
from proxy.stages.relay import Relay
from proxy.stages.turn import Turns
from proxy.store.journal.journal import Journal
from proxy.store.membership.incarnation import Incarnation
from proxy.store.redis_reservations import RedisReservations
from proxy.store.reservations import LASTS_S_MAX
from tests.simulation.client import SimClient
from tests.simulation.disk import unlocked
from tests.simulation.fleet import SimUpstream
from tests.simulation.in_order import InOrder
from tests.simulation.loop import Process
from tests.simulation.network import Line, LossyConnection

RESTART_S = 1.0
_BODIES_BYTES_MAX = 2**20


class Believing(Verifier):
    """Believes who a client says it is; forged tokens are another suite's."""

    def known(self, token: str) -> Principal:
        """Return who is asking."""
        tenant, _, user = token.partition("/")
        found = self._catalog.tenant(tenant)
        assert found is not None
        return Principal(tenant, user, found.default_plan.name)


class WitnessedReservations(RedisReservations):
    """The real store's client; it remembers what was asked for each request."""

    def __init__(self, connection: LossyConnection, incarnation: Incarnation, asked: dict[str, Ask]) -> None:
        super().__init__(connection, incarnation)
        self._asked = asked

    async def reserve(
        self,
        draft: ExchangeRecord,
        limits: tuple[Limit, ...],
        ask: Ask,
        *,
        price: Price | None = None,
        once: str | None = None,
        lasts_s: float = LASTS_S_MAX,
    ) -> Granted | Refused | Repeated:
        """Reserve, and note for what."""
        self._asked[draft.request_id] = ask
        return await super().reserve(draft, limits, ask, price=price, once=once, lasts_s=lasts_s)


class SimGateway:
    """One life of a gateway, from its start to its end or its death."""

    def __init__(
        self, name: str, settings: Settings, *, line: Line, upstream: SimUpstream, disk: Path, asked: dict[str, Ask]
    ) -> None:
        self.name = name
        self.process = Process(name)
        self.upstream = upstream
        self.ready = False
        self.clients = InOrder[SimClient]()
        self._settings = settings
        self._line = line
        self._disk = disk
        self._asked = asked
        self._stop = asyncio.Event()
        self._bodies = Bodies()
        self._serving = InOrder[asyncio.Task[None]]()
        self._exchange: Exchange | None = None
        self._journal: Journal | None = None
        self.incarnation = ""
        self.metrics = Metrics()
        self.owes: Callable[[], int] = lambda: 0
        self.ended = self.process.start(self._live())

    def serve(self, client: SimClient) -> None:
        """Take a client's connection."""
        self.clients.add(client)
        client.gateway = self.name
        task = self.process.start(self._serve(client))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def stop(self) -> None:
        """Send it SIGTERM: it takes no more connections, and ends when those it has are over."""
        self.ready = False
        self._stop.set()

    def kill(self) -> None:
        """Send it SIGKILL: the kernel closes its connections."""
        self.ready = False
        self.process.kill()
        if self._journal is not None:
            unlocked(self._journal)
        self.upstream.hang_up()
        for client in self.clients:
            client.closed()
        self.clients.clear()

    async def _serve(self, client: SimClient) -> None:
        assert self._exchange is not None
        try:
            with self._bodies.share(_BODIES_BYTES_MAX) as share:
                await self._exchange(CHAT, client.downstream(share))
        finally:
            self.clients.discard(client)
            client.closed()

    async def _live(self) -> None:
        while not self._stop.is_set():
            try:
                await self._run()
            except LedgerUnavailable:
                await asyncio.sleep(RESTART_S)

    async def _run(self) -> None:
        settings, metrics = self._settings, self.metrics
        catalog, connection = Catalog.of(settings), LossyConnection(self._line, self.process)
        async with AsyncExitStack() as stack:
            incarnation = await stack.enter_async_context(Incarnation(connection))
            self.incarnation = incarnation.id
            urls = {each.name: f"http://{each.name}" for model in settings.models for each in model.replicas}
            fleet = await stack.enter_async_context(pooled(settings, urls, self.upstream, metrics))
            for tenant in settings.tenants:
                await incarnation.serve(tenant)
            meter, holds = Meter(metrics), HoldTimes()
            store = WitnessedReservations(connection, incarnation, self._asked)
            journal = Journal(self._disk, incarnation.id)
            self._journal = await stack.enter_async_context(journal)
            outbox = await stack.enter_async_context(
                settling(connection, store, journal, incarnation=incarnation, meter=meter, metrics=metrics)
            )
            progress = await stack.enter_async_context(Progress(store, settings.ledger.progress_s))
            self.owes = lambda: len(progress) + len(outbox) + journal.owed
            turns = Turns(fleet.pools, holds, metrics)
            self._exchange = Exchange(
                incarnation=incarnation.id,
                in_force=InForce(Config.of(settings, catalog, Believing.of(settings, catalog))),
                admit=Admit(store, outbox, holds),
                turns=turns,
                relay=Relay(self.upstream, b"secret" * 8),
                outbox=outbox,
                progress=progress,
                meter=meter,
                learns=(turns.learn,),
            )
            self.pools = fleet.pools
            self.ready = not self._stop.is_set()
            await self._stop.wait()
            await self._drain()

    async def _drain(self) -> None:
        """Do as the server does: wait, then cancel."""
        serving = list(self._serving)
        if serving:
            await asyncio.wait(serving, timeout=self._settings.limits.drain_s_max)
        for task in serving:
            task.cancel()
        if serving:
            await asyncio.wait(serving)
