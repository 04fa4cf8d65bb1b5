"""
Fault x phase: each fault hits a gateway that has one exchange in each phase, and afterwards the same must hold.

| phase    | where its exchange is when the fault sets in                                       |
|----------|------------------------------------------------------------------------------------|
| `body`   | half of its body is sent: nothing is reserved yet                                  |
| `first`  | a replica has it and sends nothing                                                 |
| `middle` | its stream runs                                                                    |
| `last`   | its stream has every token and waits for usage and `[DONE]`                        |
| `whole`  | a replica works on an answer that is not streamed                                  |
| `settle` | short streams, one after the other, so that some end while the fault lasts         |

Faults of a replica hit both replicas where one alone would miss some phases. A replica cannot decline, fail or abort
what it has not got: those faults meet only exchanges that are sent to it later, which are those of `body` and `settle`.
"""

import asyncio
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from proxy.store import keys
from tests.asks import CHAT, chat
from tests.chaos.system import LEASE_S, TENANT, System, system
from tests.e2e.gateway import Running

FAULT_S = 3.0
END_S_MAX = 15.0
"""Every deadline of an exchange, one after the other."""
BACK_S_MAX = 12.0
LATE_S = 3.0
PHASES = ("body", "first", "middle", "last", "whole", "settle")


@dataclass
class Asker:
    """One phase's client."""

    phase: str
    stream: bool = True
    max_tokens: int = 150
    slow_body: bool = False
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared when it reads no more."""
    there: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once its exchange is in its phase."""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    answers: list[tuple[int, str, bytes]] = field(default_factory=list)
    """Status, request id and what was read of each answer."""

    def __post_init__(self) -> None:
        self.reads.set()

    async def ask(self, client: httpx.AsyncClient, tokens: int = 1) -> None:
        """Ask once and read until it is over, however it ends."""
        try:
            async with client.stream("POST", CHAT, content=self._body(), headers=self._headers) as answer:
                at = len(self.answers)
                self.answers.append((answer.status_code, answer.headers.get("x-request-id", ""), b""))
                async for data in answer.aiter_raw():
                    status, name, before = self.answers[at]
                    self.answers[at] = status, name, before + data
                    if (before + data).count(b'"delta":{"content"') >= tokens:
                        self.there.set()
                    await self.reads.wait()
        except httpx.HTTPError:
            return

    @property
    def _headers(self) -> dict[str, str]:
        return {"content-type": "application/json"}

    async def _body(self) -> AsyncIterator[bytes]:
        options = {"stream_options": {"include_usage": True}} if self.stream else {}
        asked = chat(self.max_tokens, stream=self.stream, **options)
        encoded = json.dumps(asked).encode()
        yield encoded[:20]
        if self.slow_body:
            self.there.set()
            await self.go_on.wait()
        yield encoded[20:]


@dataclass
class Scene:
    """A gateway in all phases at once."""

    chaos: System
    running: Running
    askers: dict[str, Asker]
    work: list[asyncio.Task[None]] = field(default_factory=list)

    async def begin(self, clients: dict[str, httpx.AsyncClient]) -> None:
        """Bring each asker into its phase."""
        await self._faults({"kind": "hang"})
        self._start("first", clients)
        await self.running.eventually("tollway_inflight_requests", 1, within_s=BACK_S_MAX)
        await self._faults({"kind": "hold_end"})
        self._start("last", clients, tokens=4)
        await self._wait("last")
        await self._faults()
        for phase in ("middle", "body", "whole"):
            self._start(phase, clients)
        await self.running.eventually("tollway_inflight_requests", 4, within_s=BACK_S_MAX)
        await asyncio.gather(self._wait("middle"), self._wait("body"))
        self.work.append(asyncio.create_task(self._again_and_again(clients["settle"])))

    async def on_all(self, row: dict[str, Any]) -> None:
        """Make both replicas fail for a while."""
        await self._faults(row)
        await asyncio.sleep(FAULT_S)
        await self._faults()

    async def _again_and_again(self, client: httpx.AsyncClient) -> None:
        until = time.monotonic() + FAULT_S + 1
        while time.monotonic() < until:
            await self.askers["settle"].ask(client)
            await asyncio.sleep(0.05)

    def _start(self, phase: str, clients: dict[str, httpx.AsyncClient], tokens: int = 1) -> None:
        self.work.append(asyncio.create_task(self.askers[phase].ask(clients[phase], tokens)))

    async def _wait(self, phase: str) -> None:
        async with asyncio.timeout(BACK_S_MAX):
            await self.askers[phase].there.wait()

    async def _faults(self, *rows: dict[str, Any]) -> None:
        for replica in self.chaos.replicas:
            if replica.process.poll() is None:
                await replica.ask("DELETE", "/sim/faults")
                for row in rows:
                    await replica.ask("POST", "/sim/faults", row)


Fault = Callable[[Scene], Coroutine[Any, Any, None]]


async def _for_a_while(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(FAULT_S)
    finally:
        os.kill(pid, signal.SIGCONT)


async def replica_killed(scene: Scene) -> None:
    """Kill one replica for good."""
    scene.chaos.replicas[0].process.kill()
    await asyncio.sleep(FAULT_S)


async def replica_vanishes(scene: Scene) -> None:
    """Have one replica die without a word: nothing listens, and what is open stays silent."""
    await scene.chaos.replicas[0].ask("POST", "/sim/vanish")
    await asyncio.sleep(FAULT_S)


async def replica_stopped(scene: Scene) -> None:
    """Stop one replica for a while."""
    await _for_a_while(scene.chaos.replicas[0].process.pid)


async def replica_error_frame(scene: Scene) -> None:
    """Have the engines die under what comes."""
    await scene.on_all({"kind": "engine_dead", "after_tokens": 2})


async def replica_abort(scene: Scene) -> None:
    """Have everything aborted that runs, and what comes."""
    for replica in scene.chaos.replicas:
        await replica.ask("POST", "/abort_requests", {"request_ids": []})
    await scene.on_all({"kind": "abort", "after_tokens": 2})


async def replica_declines(scene: Scene) -> None:
    """Have both replicas overloaded."""
    await scene.on_all({"kind": "refuse"})


async def redis_stopped(scene: Scene) -> None:
    """Stop Redis for a while."""
    await _for_a_while(scene.running.redis_pid)


async def redis_killed(scene: Scene) -> None:
    """Kill Redis; the gateway starts it again."""
    await asyncio.sleep(1.2)  # the append-only file is synced each second
    os.kill(scene.running.redis_pid, signal.SIGKILL)
    await asyncio.sleep(FAULT_S)


async def client_hangs_up(scene: Scene) -> None:
    """Have every client leave at once."""
    for task in scene.work:
        task.cancel()
    await asyncio.sleep(FAULT_S / 3)


async def client_stalls(scene: Scene) -> None:
    """Have every client read no more."""
    for asker in scene.askers.values():
        asker.reads.clear()
    await asyncio.sleep(2 * FAULT_S)
    for task in scene.work:
        task.cancel()


async def gateway_terminated(scene: Scene) -> None:
    """Stop the gateway politely."""
    scene.running.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(scene.running.process.wait, END_S_MAX)


async def gateway_killed(scene: Scene) -> None:
    """Kill the gateway."""
    scene.running.process.kill()
    await asyncio.to_thread(scene.running.process.wait, END_S_MAX)


async def gateway_stopped(scene: Scene) -> None:
    """Stop the gateway for a while, shorter than its lease."""
    await _for_a_while(scene.running.process.pid)


async def gateway_cut(scene: Scene) -> None:
    """Cut the gateway off from Redis for longer than its heartbeat while it serves on, beside one that sweeps."""
    place = Path(scene.chaos.redis_url.removeprefix("unix://"))
    redis: Any = Redis(unix_socket_path=str(place), decode_responses=True)
    own = {client["id"] for client in redis.client_list()} - {str(redis.client_id())}
    beside = scene.chaos.another()
    await asyncio.to_thread(beside.__enter__)
    away = place.with_name("away")
    os.rename(place, away)
    try:
        for client in own:
            redis.client_kill_filter(_id=client)
        deadline = time.monotonic() + 2 * LEASE_S
        while not redis.zcard(keys.suspect_index(TENANT)):
            assert time.monotonic() < deadline, "nothing is suspect"
            await asyncio.sleep(0.2)
        await asyncio.sleep(FAULT_S)
    finally:
        os.rename(away, place)
        await asyncio.to_thread(beside.__exit__, None, None, None)


FAULTS: list[Fault] = [
    replica_killed,
    replica_vanishes,
    replica_stopped,
    replica_error_frame,
    replica_abort,
    replica_declines,
    redis_stopped,
    redis_killed,
    client_hangs_up,
    client_stalls,
    gateway_terminated,
    gateway_killed,
    gateway_stopped,
    gateway_cut,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_whatever_breaks_in_whatever_phase(tmp_path: Path, fault: Fault) -> None:
    askers = {phase: Asker(phase) for phase in PHASES}
    askers["body"].slow_body = True
    askers["whole"].stream, askers["whole"].max_tokens = False, 80
    askers["last"].max_tokens = askers["settle"].max_tokens = 5
    with ExitStack() as stack:
        chaos = stack.enter_context(system(tmp_path, "--decode-ms-per-token", "40"))
        running = stack.enter_context(chaos.gateway())
        scene = Scene(chaos, running, askers)
        clients = {phase: running.client(running.bearer("acme", phase)) for phase in PHASES}
        await scene.begin(clients)
        broken = asyncio.create_task(fault(scene))
        await asyncio.sleep(FAULT_S / 2)
        askers["body"].go_on.set()
        await broken
        await asyncio.wait(scene.work, timeout=END_S_MAX)
        for task in scene.work:
            task.cancel()
        await asyncio.gather(*scene.work, return_exceptions=True)
        for client in clients.values():
            await client.aclose()
        if running.process.poll() is not None:
            running = stack.enter_context(chaos.gateway())
        await _all_is_well(chaos, running, askers)


async def _all_is_well(chaos: System, running: Running, askers: dict[str, Asker]) -> None:
    await _served(running)
    deadline = time.monotonic() + LEASE_S + LATE_S
    while left := await chaos.open():
        assert time.monotonic() < deadline, f"still open: {Counter(left)}"
        await asyncio.sleep(0.2)
    await running.eventually("tollway_reservations_open", 0, within_s=BACK_S_MAX)
    await running.eventually("tollway_inflight_requests", 0, within_s=BACK_S_MAX)
    rows = await chaos.rows()
    finals = Counter(record.request_id for kind, record in rows if kind == "FINAL")
    assert set(finals.values()) == {1}
    assert set(Counter(record.request_id for kind, record in rows if kind != "FINAL").values()) <= {1}
    billed: Counter[str] = Counter()
    for _, record in rows:
        billed[record.request_id] += record.completion_tokens
    for phase, asker in askers.items():
        for status, name, answer in asker.answers:
            assert status != 500, (phase, answer)
            if status == 200:
                assert finals[name] == 1, (phase, name)
            if status == 200 and (answer.endswith(b"data: [DONE]\n\n") or (not asker.stream and answer)):
                assert billed[name] == int(re.findall(rb'"completion_tokens":(\d+)', answer)[-1]), (phase, name)
        await _quota_is_ledger(running, phase, [record for _, record in rows if record.user == phase])


async def _served(running: Running) -> None:
    """Wait until a request is answered."""
    body = chat(2)
    deadline = time.monotonic() + BACK_S_MAX
    async with running.client(running.bearer("acme", "next")) as client:
        while (status := (await client.post(CHAT, json=body)).status_code) != 200:
            assert time.monotonic() < deadline, f"still {status}"
            await asyncio.sleep(0.2)


async def _quota_is_ledger(running: Running, user: str, rows: list[Any]) -> None:
    async with running.client(running.bearer("acme", user)) as client:
        limits = (await client.get("/v1/quota")).json()["limits"]
    used = {limit["unit"]: limit["used"] for limit in limits}
    tokens = sum(record.prompt_tokens + record.completion_tokens for record in rows)
    observed = all(record.prompt_tokens for record in rows)
    assert used["concurrent"] == 0, user
    assert used["requests"] == len({record.request_id for record in rows}), user
    # Where no usage was ever received the quota keeps the whole reservation of who hung up.
    assert used["tokens"] == tokens if observed else used["tokens"] >= tokens, user
