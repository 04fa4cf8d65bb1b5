"""A gateway paused while another takes it for dead: one FINAL, one CORRECTION, and together they are the truth."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from policies.pricing import decimal
from proxy.billing.entry import Entry
from proxy.billing.record import COUNTED
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store.membership import registry
from tests.asks import CHAT, chat
from tests.e2e.gateway import Running, gateway
from tests.redis_server import redis_in

SWEPT_S_MAX = 30.0
CORRECTED_S_MAX = 15.0


@pytest.fixture
def redis_address(tmp_path: Path) -> Iterator[str]:
    """Run a Redis that two gateways share."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_in(folder, "--appendonly", "yes") as url:
        yield url


@pytest.fixture
def pair(tmp_path: Path, redis_address: str) -> Iterator[tuple[Running, Running]]:
    """Run two gateways on one Redis."""
    with ExitStack() as stack:
        folders = [tmp_path / name for name in ("one", "two")]
        for folder in folders:
            folder.mkdir()
        one, two = (stack.enter_context(gateway(folder, TOLLWAY__REDIS__URL=redis_address)) for folder in folders)
        yield one, two


async def until_rows(running: Running, count: int, within_s: float) -> list[Entry]:
    """Wait until the ledger has so many rows."""
    deadline = time.monotonic() + within_s
    while len(found := await running.ledger()) < count:
        assert time.monotonic() < deadline, f"{len(found)} rows after {within_s} s"
        await asyncio.sleep(0.2)
    return found


async def read(client: httpx.AsyncClient, begun: asyncio.Event) -> dict[str, Any]:
    """Read one stream to its end and return the usage that the client was told."""
    body = chat(2_000, stream=True, stream_options={"include_usage": True})
    usage: dict[str, Any] = {}
    seen = 0
    async with client.stream("POST", CHAT, json=body) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                usage = json.loads(line[6:]).get("usage") or usage
                seen += 1
                if seen > 900:  # a good second in: a beat has noted some of it
                    begun.set()
    return usage


def used_of(running: Running, what: str = "used") -> dict[str, int]:
    """Return what ada has used of her limits, by name; or what of it is suspect."""
    headers = running.bearer("globex", "ada", "tight")
    quota = httpx.get(f"{running.url}/v1/quota", headers=headers, verify=False).json()
    return {limit["name"]: limit[what] for limit in quota["limits"]}


async def until_suspect(running: Running) -> int:
    """Wait until windows keep what nobody knows the end of; return how many tokens."""
    deadline = time.monotonic() + SWEPT_S_MAX
    while not (kept := used_of(running, "suspect")["tenant-tokens-day"]):
        assert time.monotonic() < deadline, f"nothing is suspect after {SWEPT_S_MAX} s"
        await asyncio.sleep(0.2)
    return kept


async def test_a_gateway_woken_while_it_was_only_suspect_bills_by_itself(
    pair: tuple[Running, Running], redis_address: str
) -> None:
    paused, other = pair
    begun = asyncio.Event()
    async with paused.client(paused.bearer("globex", "ada", "tight")) as it:
        streaming = asyncio.create_task(read(it, begun))
        await begun.wait()
        reserved = used_of(other)["tenant-tokens-day"]
        os.kill(paused.process.pid, signal.SIGSTOP)
        try:
            assert await until_suspect(other) == reserved >= 2_000
            told = used_of(other)
            assert (told["tenant-tokens-day"], told["user-concurrent"]) == (reserved, 0)
            assert await other.ledger() == []
        finally:
            os.kill(paused.process.pid, signal.SIGCONT)
        usage = await streaming
    [final] = await until_rows(other, 1, CORRECTED_S_MAX)
    assert (final.kind, final.record.source, final.record.outcome) == ("FINAL", "engine", "ok")
    assert final.record.completion_tokens == usage["completion_tokens"] == 2_000
    assert used_of(other)["tenant-tokens-day"] == usage["total_tokens"]
    assert used_of(other, "suspect")["tenant-tokens-day"] == 0


async def test_a_gateway_woken_after_it_was_swept_corrects_its_bill(
    pair: tuple[Running, Running], redis_address: str
) -> None:
    paused, other = pair
    begun = asyncio.Event()
    async with paused.client(paused.bearer("globex", "ada", "tight")) as it:
        streaming = asyncio.create_task(read(it, begun))
        await begun.wait()
        os.kill(paused.process.pid, signal.SIGSTOP)
        try:
            await until_suspect(other)
            async with RedisClient(redis_address, deadline_s=20) as connection:
                [silent] = [each for each in await registry.known(connection) if each.held.reservations]
                await registry.forget(connection, silent.id)
            [final] = await until_rows(other, 1, SWEPT_S_MAX)
        finally:
            os.kill(paused.process.pid, signal.SIGCONT)
        usage = await streaming
    _, correction = found = await until_rows(other, 2, CORRECTED_S_MAX)
    assert (final.kind, final.record.source, final.record.outcome) == ("FINAL", "recovered", "gateway_lost")
    assert final.record.replica in {"demo-0", "demo-1"}
    assert 0 < final.record.completion_tokens < usage["completion_tokens"] == 2_000
    assert (correction.kind, correction.record.source, correction.record.outcome) == ("CORRECTION", "engine", "ok")
    told = {name: sum(getattr(entry.record, name) for entry in found) for name in COUNTED}
    assert (told["prompt_tokens"], told["completion_tokens"]) == (usage["prompt_tokens"], 2_000)
    assert told["charge_picos"] == usage["prompt_tokens"] * 150_000 + 2_000 * 600_000
    [row] = other.usage("user")
    assert (row["requests"], row["completion_tokens"], row["charge"]) == (1, 2_000, decimal(told["charge_picos"]))
    used = used_of(other)
    assert used["tenant-tokens-day"] == usage["total_tokens"]
    assert used["user-concurrent"] == 0
    async with RedisClient(redis_address, deadline_s=20) as connection:
        assert await connection.call("ZCARD", keys.open_index("globex")) == 0
    assert paused.metrics("tollway_corrections_total") == 1
    assert paused.metrics("tollway_requests_total", outcome="ok") == 0
    assert other.metrics("tollway_requests_total", outcome="gateway_lost") == 1
    for kind in ("prompt", "completion"):
        metered = sum(each.metrics("tollway_tokens_total", kind=kind) for each in pair)
        assert metered == usage[f"{kind}_tokens"]
