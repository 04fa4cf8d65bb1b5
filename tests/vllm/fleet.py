"""Two real vLLM replicas (and one that embeds) behind a gateway, and what each of them counts by itself."""

import asyncio
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from engine.fleet.launch import healthy
from proxy.billing.record import ExchangeRecord
from tests import asks
from tests.e2e.gateway import Running
from tests.processes import command_line, descendants

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
REPLICAS = ("demo-0", "demo-1")
BACK_S_MAX = 300.0
"""A replica that died is started again, which takes as long as a start."""
SETTLED_S_MAX = 15.0
_TLS = ssl.create_default_context()
"""Made once: it takes longer than a request."""
_SAMPLE = re.compile(r"^vllm:(\w+)\{[^}]*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Counts:
    """A replica's own counters, and what it has in work."""

    prompt_tokens: int
    """Each prompt once for each of its choices, as soon as the choice has its first token."""
    generation_tokens: int
    running: int
    waiting: int

    def since(self, before: "Counts") -> "Counts":
        """Return what was added."""
        return Counts(
            self.prompt_tokens - before.prompt_tokens,
            self.generation_tokens - before.generation_tokens,
            self.running,
            self.waiting,
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """A gateway whose replicas are real."""

    gateway: Running

    @asynccontextmanager
    async def client(
        self, user: str, tenant: str = "acme", *, through: Running | None = None
    ) -> AsyncIterator[httpx.AsyncClient]:
        """Give a client of one user, through this gateway or another."""
        running = through or self.gateway
        limits = httpx.Limits(max_connections=None)
        headers = running.bearer(tenant, user, "open")
        async with httpx.AsyncClient(
            base_url=running.url, headers=headers, limits=limits, timeout=60, verify=_TLS
        ) as opened:
            yield opened

    async def counts(self, replica: str) -> Counts:
        """Read a replica's metrics."""
        async with httpx.AsyncClient(base_url=self.gateway.replica_url(replica), timeout=30, verify=_TLS) as direct:
            text = (await direct.get("/metrics")).text
        read: Counter[str] = Counter()
        for name, value in _SAMPLE.findall(text):
            read[name] += int(float(value))
        return Counts(
            read["prompt_tokens_total"],
            read["generation_tokens_total"],
            read["num_requests_running"],
            read["num_requests_waiting"],
        )

    async def idle(self, replica: str) -> Counts:
        """Wait until a replica has nothing in work and its counters rest; return them."""
        counts = await self.counts(replica)
        async with asyncio.timeout(SETTLED_S_MAX):
            while (again := await self.counts(replica)) != counts or again.running or again.waiting:
                counts = again
                await asyncio.sleep(0.05)
        return counts

    async def let_go_s(self, replica: str) -> float:
        """Return after how many seconds a replica says that it runs nothing."""
        began = time.monotonic()
        async with asyncio.timeout(SETTLED_S_MAX):
            while (counts := await self.counts(replica)).running or counts.waiting:
                pass
        return time.monotonic() - began

    async def control(self, path: str, *replicas: str) -> None:
        """Use an endpoint of vLLM's dev mode on replicas."""
        for replica in replicas:
            async with httpx.AsyncClient(base_url=self.gateway.replica_url(replica), timeout=30, verify=_TLS) as direct:
                (await direct.post(path)).raise_for_status()

    async def settled(self, running: Running | None = None) -> None:
        """Wait until a gateway has nothing open."""
        running = running or self.gateway
        await running.eventually("tollway_reservations_open", 0, within_s=SETTLED_S_MAX)
        assert running.metrics("tollway_inflight_requests") == 0

    async def back(self, replica: str) -> None:
        """Wait until a replica has been started again and the gateway gives it work."""
        port = int(self.gateway.replica_url(replica).rpartition(":")[2])
        async with asyncio.timeout(BACK_S_MAX):
            while not await self._serves(port) or self.gateway.metrics("tollway_replica_up", replica=replica) != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.2)

    async def _serves(self, port: int) -> bool:
        try:
            return await healthy(port)
        except OSError:
            return False

    def processes(self, replica: str) -> dict[str, int]:
        """Return a replica's processes by what they are: `api` and `engine`."""
        port = self.gateway.replica_url(replica).rpartition(":")[2]
        [api] = [pid for pid in descendants(self.gateway.process.pid) if f"--port {port} " in command_line(pid)]
        [engine] = [pid for pid in descendants(api) if "EngineCore" in command_line(pid)]
        return {"api": api, "engine": engine}


async def records(running: Running) -> list[ExchangeRecord]:
    """Read the whole ledger."""
    entries = await running.ledger()
    assert all(entry.kind == "FINAL" for entry in entries)
    assert len({entry.record.request_id for entry in entries}) == len(entries), "billed exactly once"
    return [entry.record for entry in entries]


async def record_of(running: Running, user: str) -> ExchangeRecord:
    """Return the one record of a user."""
    [record] = [record for record in await records(running) if record.user == user]
    return record


def chat(max_tokens: int = 1900, **fields: Any) -> dict[str, Any]:
    """Return a chat that goes on for as long as it may, and always the same way."""
    return asks.chat(max_tokens, **({"temperature": 0} | fields))


def long_stream() -> dict[str, Any]:
    """Return a chat that streams for seconds: alternatives to each token are slow to write."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    return chat(stream=True, stream_options=options, logprobs=True, top_logprobs=20)
