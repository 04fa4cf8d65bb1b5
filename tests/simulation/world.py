"""
A world: gateways, one Redis, replicas and clients on virtual time, all of it drawn from one seed.

A step is one event that reaches somebody over a wire: a call that arrives at Redis, a request that arrives at a
replica, a read of its answer at a gateway, a client that comes or whose exchange ends, a fault that sets in. Timers and
the callbacks in between are not counted, nor are health checks.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from engine.sim.config import SimConfig
from policies.quota import Ask
from proxy.catalog import Catalog
from proxy.settings.loading import parse
from tests.simulation import scenario
from tests.simulation.client import End, SimClient
from tests.simulation.clock import Clock, virtual
from tests.simulation.disk import inline
from tests.simulation.fleet import Attempt, SimReplica, SimUpstream
from tests.simulation.gateways import SimGateway
from tests.simulation.loop import OUTSIDE, VirtualLoop
from tests.simulation.network import CalmConnection, Line
from tests.simulation.scenario import Fault
from tests.simulation.shared_redis import Rewrite, SharedRedis, unchanged

GATEWAYS = 2
NOON_US = 1_772_366_400_000_000
"""2026-03-01 12:00 UTC."""
MIDNIGHT_US = NOON_US + 12 * 3_600 * 1_000_000
QUIET_S = 66.0
"""How long a healed world is left alone: every deadline of an exchange, the time that its own end may take after it, a
lease and its sweep, and what is owed."""
CLIENT_S_MAX = 75.0
"""Within which a client has its end unless it stalls: its body, both attempts, every deadline, a paused gateway."""


class Check(Protocol):
    """What asserts that a world is as it should be."""

    def always(self, world: "World") -> None:
        """Look after each call that moved something in Redis."""

    def at_rest(self, world: "World") -> None:
        """Look when nothing happens any more."""


class World:
    """One run."""

    def __init__(self, seed: int, url: str, folder: Path, *, check: Check, rewrite: Rewrite = unchanged) -> None:
        self.seed = seed
        self._folder = folder
        self.rng = random.Random(seed)
        self.steps: Counter[str] = Counter()
        self.loop = VirtualLoop()
        self.crosses_midnight = self.rng.random() < 0.2
        start_us = MIDNIGHT_US - 20_000_000 if self.crosses_midnight else NOON_US
        self.clock = Clock(self.loop, start_us)
        self.redis = SharedRedis(url, self.clock, rewrite)
        self.settings = parse(scenario.CONFIG, {}, folder=folder)
        self.catalog = Catalog.of(self.settings)
        self.line = Line(self.redis, self.rng, self._redis_took)
        self.calm = CalmConnection(self.redis)
        self.clients: list[SimClient] = []
        self.gateways: list[SimGateway] = []
        self.lives: list[SimGateway] = []
        """Every gateway process that there was."""
        self.replicas: dict[str, SimReplica] = {}
        self.asked: dict[str, Ask] = {}
        self.story: list[str] = []
        """What happened, for whoever has to find out why an assertion failed."""
        self.ended: set[str] = set()
        """Incarnations that were killed or told to stop."""
        self.killed_at_s: dict[str, float] = {}
        """When each incarnation was killed."""
        self.troubled_s: list[tuple[float, float]] = []
        """When calls to Redis were at risk."""
        self.faults: list[Fault] = []
        """What broke."""
        self._check = check

    def run(self) -> None:
        """Live from the first client to the end of the quiet."""
        asyncio.set_event_loop(None)
        with _quiet(), virtual(self.clock, self.rng), inline(), self.redis.open():
            try:
                self._complete(self._live())
            finally:
                self._complete(self._bury())
                self.loop.close()
        assert not self.loop.faults, self.loop.faults

    def step(self, what: str, about: str = "") -> None:
        """Count one event, and remember it if there is something to tell about it."""
        self.steps[what] += 1
        if about:
            self.story.append(f"{self.loop.now_s:9.4f} {what} {about}")

    def held(self, request_id: str) -> int:
        """Return how many tokens an exchange was granted; 0 where Redis never granted any."""
        if request_id not in self.redis.granted:
            return 0
        ask = self.asked[request_id]
        return ask.prompt_tokens + ask.choices * self.redis.granted[request_id]

    @property
    def attempts(self) -> dict[str, list[Attempt]]:
        """What each exchange's requests to replicas came to, by the exchange's id."""
        return {name: made for life in self.lives for name, made in life.upstream.attempts.items()}

    async def _live(self) -> None:
        config = SimConfig(decode_us_per_token=40_000, prefill_us_per_token=800, max_num_seqs=16, natural_tokens=24)
        self.replicas = {name: SimReplica(name, config) for name in ("a", "b")}
        self.gateways = [self._new_gateway(place) for place in range(GATEWAYS)]
        await asyncio.sleep(0.5)
        asked = list(scenario.clients(self.rng))
        faults = scenario.faults(self.rng)
        work = [asyncio.create_task(self._client(SimClient(asks))) for asks in asked]
        work += [asyncio.create_task(self._fault(fault)) for fault in faults]
        for done in asyncio.as_completed(work):
            await done
        await asyncio.sleep(QUIET_S)
        self._check.at_rest(self)

    def _new_gateway(self, place: int) -> SimGateway:
        upstream = SimUpstream(self.replicas, self.rng, self.step)
        name = f"g{place}.{len(self.lives)}"
        disk = self._folder / f"gateway-{place}"
        life = SimGateway(name, self.settings, line=self.line, upstream=upstream, disk=disk, asked=self.asked)
        self.lives.append(life)
        return life

    async def _client(self, client: SimClient) -> None:
        asks = client.asks
        await asyncio.sleep(asks.at_s)
        self.step("client", repr(asks))
        self.clients.append(client)
        ready = [gateway for gateway in self.gateways if gateway.ready]
        if not ready:
            client.end = End.REFUSED
            return
        self.rng.choice(ready).serve(client)
        async with asyncio.timeout(None if client.asks.stalls_after is not None else CLIENT_S_MAX):
            await client.live()
        self.step("client", f"{asks.number} of {client.gateway} {client.request_id}: {client.status} {client.end}")

    async def _fault(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at_s)
        self.step("fault", repr(fault))
        self.faults.append(fault)
        await getattr(self, f"_{fault.what.value}")(fault)

    async def _kill_gateway(self, fault: Fault) -> None:
        place = fault.place % GATEWAYS
        dying = self.gateways[place]
        if dying.process.killed or dying.ended.done():
            return
        self.killed_at_s[dying.incarnation] = self.loop.now_s
        self.ended.add(dying.incarnation)
        dying.kill()
        await asyncio.sleep(fault.lasts_s)
        self.gateways[place] = self._new_gateway(place)

    async def _pause_gateway(self, fault: Fault) -> None:
        paused = self.gateways[fault.place % GATEWAYS]
        if paused.process.paused:
            return
        paused.process.paused = True
        began = self.loop.now_s
        await asyncio.sleep(fault.lasts_s)
        self.troubled_s.append((began, self.loop.now_s))
        if not paused.process.killed:
            paused.process.resume()

    async def _stop_gateway(self, fault: Fault) -> None:
        place = fault.place % GATEWAYS
        stopping = self.gateways[place]
        if stopping.process.killed or not stopping.ready:
            return
        self.ended.add(stopping.incarnation)
        stopping.stop()
        await asyncio.wait([stopping.ended], timeout=60)
        if not stopping.process.killed:
            assert stopping.ended.done(), "a gateway did not stop"
            self.gateways[place] = self._new_gateway(place)

    async def _cut_gateway(self, fault: Fault) -> None:
        """Cut a gateway off from Redis while it serves on."""
        process, began = self.gateways[fault.place % GATEWAYS].process, self.loop.now_s
        if process in self.line.cut:
            return
        self.line.cut.add(process)
        await asyncio.sleep(fault.lasts_s)
        self.line.cut.discard(process)
        self.troubled_s.append((began, self.loop.now_s))

    async def _kill_replica(self, fault: Fault) -> None:
        replica = list(self.replicas.values())[fault.place % len(self.replicas)]
        if not replica.up:
            return
        await replica.kill()
        await asyncio.sleep(fault.lasts_s)
        replica.start()

    async def _vanish_replica(self, fault: Fault) -> None:
        replica = list(self.replicas.values())[fault.place % len(self.replicas)]
        if not replica.up:
            return
        await replica.vanish()
        await asyncio.sleep(fault.lasts_s)
        replica.start()

    async def _pause_replica(self, fault: Fault) -> None:
        replica = list(self.replicas.values())[fault.place % len(self.replicas)]
        process = replica.process
        if not replica.up:
            return
        process.paused = True
        await asyncio.sleep(fault.lasts_s)
        if not process.killed:
            process.resume()

    async def _break_replica(self, fault: Fault) -> None:
        table = list(self.replicas.values())[fault.place % len(self.replicas)].simulator.faults
        kind = scenario.ENGINE_FAULTS[fault.place % len(scenario.ENGINE_FAULTS)]
        table.add({"kind": kind, "after_tokens": fault.place // 6, "in_band": fault.place % 2 == 0})
        await asyncio.sleep(fault.lasts_s)
        table.clear()

    async def _stop_redis(self, fault: Fault) -> None:
        self.line.stop()
        await self._redis_trouble(fault)

    async def _refuse_redis(self, fault: Fault) -> None:
        self.line.refusing = True
        await self._redis_trouble(fault)

    async def _redis_trouble(self, fault: Fault) -> None:
        began = self.loop.now_s
        await asyncio.sleep(fault.lasts_s)
        self.line.go_on()
        self.troubled_s.append((began, self.loop.now_s))

    async def _bad_network(self, fault: Fault) -> None:
        weather, began = self.line.weather, self.loop.now_s
        weather.lost, weather.unanswered = 100 * (fault.place % 3), 100 * (fault.place % 4)
        weather.late, weather.doubled = 150 * (fault.place % 2), 200 * (fault.place % 3)
        await asyncio.sleep(fault.lasts_s)
        weather.clear()
        self.troubled_s.append((began, self.loop.now_s))

    def _redis_took(self, name: str) -> None:
        self.step(name)
        if name in ("reserve", "settle", "trim", "release"):
            self._check.always(self)

    def _complete(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(self.loop.create_task(work, context=OUTSIDE.copy()))

    async def _bury(self) -> None:
        for process in [life.process for life in self.lives] + [each.process for each in self.replicas.values()]:
            await process.bury()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log of thousands of faults that are meant out of the test's output."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
