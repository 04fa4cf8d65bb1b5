"""A Redis that lost its data under a running gateway: it takes nothing and owes nothing away until that is accepted."""

import asyncio
import json
from pathlib import Path

import httpx

from proxy.redis.client import RedisClient
from proxy.redis.embedded.server import address
from proxy.store import keys
from proxy.store.membership import generation
from tests.asks import CHAT, chat
from tests.e2e.gateway import Running, gateway

TAKEN_S_MAX = 10.0


async def flush(running: Running) -> None:
    """Let Redis lose everything."""
    async with RedisClient(address(running.settings.redis.data_dir), deadline_s=20) as connection:
        await connection.call("FLUSHALL")


async def ask(running: Running) -> httpx.Response:
    """Make one request and read its answer."""
    async with running.client(running.bearer()) as client:
        return await client.post(CHAT, json=chat(5, stream=True))


async def usage(running: Running) -> httpx.Response:
    """Ask what acme used."""
    token = running.token(scopes=["usage:read"])
    async with running.client({"authorization": f"Bearer {token}"}) as client:
        return await client.get("/v1/organization/usage/completions", params={"start_time": 1_700_000_000})


async def stream(running: Running, begun: asyncio.Event) -> str:
    """Read a stream to its end, telling when it has begun."""
    read = ""
    async with (
        running.client(running.bearer()) as client,
        client.stream("POST", CHAT, json=chat(1_500, stream=True)) as answer,
    ):
        assert answer.status_code == 200
        async for text in answer.aiter_text():
            read += text
            begun.set()
    return read


async def status(url: str) -> int:
    """Return how a path answers."""
    async with httpx.AsyncClient(timeout=30, verify=False) as client:
        return (await client.get(url)).status_code


async def until_remembered(running: Running) -> None:
    """Wait until the epoch is known to be on disk."""
    async with asyncio.timeout(30):
        while not generation.remembered(running.settings.redis.data_dir):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_nothing_counts_from_zero_until_an_operator_accepts_the_loss(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        assert (await ask(running)).status_code == (await usage(running)).status_code == 200
        await until_remembered(running)
        begun = asyncio.Event()
        streaming = asyncio.create_task(stream(running, begun))
        await begun.wait()
        await flush(running)
        refused = await ask(running)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "ledger_unavailable")
        assert "came back without its data" in refused.json()["error"]["message"]
        assert await status(f"{running.url}/health/ready") == 503
        assert (await usage(running)).status_code == 503, "nothing is told of an empty ledger"
        assert running.metrics("tollway_ledger_emptied") == 1
        assert "[DONE]" in await streaming
        assert running.usage("user") == [], "nothing is charged into the empty one"
        assert running.metrics("tollway_reservations_open") >= 1
    with gateway(tmp_path) as again:
        assert (await ask(again)).status_code == 503, "the next start remembers"
        assert [
            json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines() if "epoch_lost" in line
        ]
        told = again.tollway("ledger", "accept-empty", "--yes")
        assert "is lost" in told
        async with asyncio.timeout(TAKEN_S_MAX):
            while (await ask(again)).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        assert await status(f"{again.url}/health/ready") == 200
        async with RedisClient(address(again.settings.redis.data_dir), deadline_s=20) as connection:
            assert len((await connection.call("GET", keys.GENERATION)).split()) == 2


async def test_what_the_log_has_is_charged_again_where_the_loss_is_accepted_while_the_gateway_runs(
    tmp_path: Path,
) -> None:
    with gateway(tmp_path) as running:
        for _ in range(3):
            assert (await ask(running)).status_code == 200
        await until_remembered(running)
        [before] = running.usage("user")
        assert before["requests"] == 3
        await flush(running)
        assert "is lost" in running.tollway("ledger", "accept-empty", "--yes")
        async with asyncio.timeout(TAKEN_S_MAX):
            while running.usage("user") != [before]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
            while (await ask(running)).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        [after] = running.usage("user")
        assert after["requests"] == 4
