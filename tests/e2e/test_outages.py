"""A Redis that falls silent, or dies: what is owed is paid when it is back; nobody is locked out or left unbilled."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.asks import CHAT, chat
from tests.e2e.gateway import Running, gateway

PLACES = 2
"""What the plan `tight` has in flight for each user."""
SILENT_S = 5.0
BACK_S_MAX = 8.0
TIMEOUT_S = 2.0
"""`redis.timeout_s` by default."""


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Running]:
    """Run a gateway that no other test uses."""
    with gateway(tmp_path) as running:
        yield running


@pytest.fixture
async def client(alone: Running) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client with two places in flight."""
    async with alone.client(alone.bearer("globex", "ada", "tight")) as opened:
        yield opened


async def stream(client: httpx.AsyncClient, begun: asyncio.Event | None = None) -> str:
    """Read one stream to its end, telling when it has begun."""
    read = ""
    async with client.stream("POST", CHAT, json=chat(400, stream=True)) as answer:
        assert answer.status_code == 200
        async for text in answer.aiter_text():
            read += text
            if begun is not None:
                begun.set()
    return read


async def served_again(client: httpx.AsyncClient) -> None:
    """Wait until a request is answered 200."""
    deadline = time.monotonic() + BACK_S_MAX
    while (status := (await client.post(CHAT, json=chat(5, stream=True))).status_code) != 200:
        assert time.monotonic() < deadline, f"still {status} after {BACK_S_MAX} s"
        await asyncio.sleep(0.2)


def assert_ledger_is_metrics(running: Running, requests: int) -> None:
    """Assert that the ledger and the metrics tell the same, of so many requests."""
    [row] = running.usage("user")
    assert row["requests"] == requests == running.metrics("tollway_requests_total", outcome="ok")
    for kind in ("prompt", "completion"):
        assert row[f"{kind}_tokens"] == running.metrics("tollway_user_tokens_total", user="ada", kind=kind)
        assert row[f"{kind}_tokens"] == running.metrics("tollway_tokens_total", tenant="globex", kind=kind)


async def test_streams_that_end_while_redis_is_silent_are_billed_and_give_their_places_back(
    alone: Running, client: httpx.AsyncClient
) -> None:
    begun = [asyncio.Event() for _ in range(PLACES)]
    streams = [asyncio.create_task(stream(client, event)) for event in begun]
    await asyncio.gather(*(event.wait() for event in begun))
    redis = alone.redis_pid
    os.kill(redis, signal.SIGSTOP)
    try:
        silent_until = time.monotonic() + SILENT_S
        read = await asyncio.gather(*streams)
        assert all("[DONE]" in text for text in read)
        assert time.monotonic() < silent_until
        assert alone.metrics("tollway_reservations_open") == PLACES
        assert alone.metrics("tollway_requests_total", outcome="ok") == 0
        await asyncio.sleep(silent_until - time.monotonic())
    finally:
        os.kill(redis, signal.SIGCONT)
    await alone.eventually("tollway_reservations_open", 0, within_s=BACK_S_MAX)
    assert_ledger_is_metrics(alone, PLACES)
    assert all("[DONE]" in text for text in await asyncio.gather(*(stream(client) for _ in range(PLACES))))
    assert_ledger_is_metrics(alone, 2 * PLACES)


async def test_while_redis_is_silent_a_request_is_refused_in_one_timeout(
    alone: Running, client: httpx.AsyncClient
) -> None:
    await stream(client)
    redis = alone.redis_pid
    os.kill(redis, signal.SIGSTOP)
    try:
        began = time.monotonic()
        refused = await client.post(CHAT, json=chat(5, stream=True))
        took_s = time.monotonic() - began
    finally:
        os.kill(redis, signal.SIGCONT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert took_s < 1.5 * TIMEOUT_S
    await alone.eventually("tollway_reservations_open", 0, within_s=BACK_S_MAX)
    assert_ledger_is_metrics(alone, 1)


async def test_a_killed_redis_is_started_again_with_its_ledger(alone: Running, client: httpx.AsyncClient) -> None:
    await stream(client)
    await asyncio.sleep(1.2)  # the append-only file is synced each second
    os.kill(alone.redis_pid, signal.SIGKILL)
    assert (await client.post(CHAT, json=chat(5, stream=True))).status_code == 503
    await served_again(client)
    await alone.eventually("tollway_reservations_open", 0, within_s=BACK_S_MAX)
    assert_ledger_is_metrics(alone, 2)


async def test_a_stream_over_the_death_of_redis_is_billed(alone: Running, client: httpx.AsyncClient) -> None:
    begun = asyncio.Event()
    streaming = asyncio.create_task(stream(client, begun))
    await begun.wait()
    os.kill(alone.redis_pid, signal.SIGKILL)
    assert "[DONE]" in await streaming
    await served_again(client)
    await alone.eventually("tollway_reservations_open", 0, within_s=BACK_S_MAX)
    assert_ledger_is_metrics(alone, 2)
