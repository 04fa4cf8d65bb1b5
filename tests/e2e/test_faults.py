"""Replicas that fail, and clients that leave: what the client reads, and what is billed."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.asks import CHAT, chat
from tests.e2e.gateway import Running

REPLICAS = ("faulty-0", "faulty-1")


def faulty(*, stream: bool, max_tokens: int = 40) -> dict[str, object]:
    """Return a request to the model whose replicas fail."""
    return chat(max_tokens, model="faulty", stream=stream)


@pytest.fixture
async def client(running: Running, request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client with a user of its own, and sound replicas again afterwards."""
    async with running.client(running.bearer("hooli", request.node.name)) as opened:
        yield opened
    async with httpx.AsyncClient(verify=False) as direct:
        for name in REPLICAS:
            await direct.delete(f"{running.replica_url(name)}/sim/faults")


async def break_replicas(running: Running, *names: str, **fault: object) -> None:
    """Make replicas fail."""
    async with httpx.AsyncClient(verify=False) as direct:
        for name in names:
            (await direct.post(f"{running.replica_url(name)}/sim/faults", json=fault)).raise_for_status()


async def settled(running: Running, user: str) -> dict[str, int]:
    """Wait until nothing of the gateway is in flight, and return what the ledger bills a user."""
    await running.eventually("tollway_reservations_open", 0, within_s=3)
    assert running.metrics("tollway_inflight_requests") == 0
    rows = [row for row in running.usage("user") if row["user"] == user]
    return rows[0] if rows else {"requests": 0, "prompt_tokens": 0, "completion_tokens": 0}


@pytest.mark.parametrize(
    ("kind", "stream"),
    # A stream that the engine aborts has begun: vLLM sends the role's frame first.
    [(kind, False) for kind in ("refuse", "http_500", "crash", "engine_dead", "abort")]
    + [(kind, True) for kind in ("refuse", "http_500", "crash", "engine_dead")],
)
async def test_another_replica_takes_over_before_the_first_token(
    running: Running, client: httpx.AsyncClient, kind: str, *, stream: bool
) -> None:
    await break_replicas(running, "faulty-0", kind=kind)
    answers = [await client.post(CHAT, json=faulty(stream=stream, max_tokens=4)) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert {answer.headers["x-tollway-replica"] for answer in answers} == {"faulty-1"}


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_when_no_replica_can_the_client_reads_502(
    running: Running, client: httpx.AsyncClient, request: pytest.FixtureRequest, *, stream: bool
) -> None:
    await break_replicas(running, *REPLICAS, kind="http_500")
    answer = await client.post(CHAT, json=faulty(stream=stream))
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_error"
    assert (await settled(running, request.node.name))["completion_tokens"] == 0


@pytest.mark.parametrize("kind", ["crash", "engine_dead", "abort"])
async def test_a_failure_mid_stream_is_told_in_band_and_billed_as_received(
    running: Running, client: httpx.AsyncClient, request: pytest.FixtureRequest, kind: str
) -> None:
    await break_replicas(running, *REPLICAS, kind=kind, after_tokens=5)
    answer = await client.post(CHAT, json=faulty(stream=True))
    frames = [frame for frame in answer.text.split("\n\n") if frame]
    assert answer.status_code == 200
    assert json.loads(frames[-1].removeprefix("data: "))["error"]["code"] == "stream_truncated"
    assert "[DONE]" not in answer.text
    billed = await settled(running, request.node.name)
    assert billed["requests"] == 1
    assert 5 <= billed["completion_tokens"] <= 6
    assert billed["prompt_tokens"] > 0


async def test_a_client_that_leaves_stops_the_replica_and_pays_for_what_was_generated(
    running: Running, client: httpx.AsyncClient, request: pytest.FixtureRequest
) -> None:
    async with client.stream("POST", CHAT, json=faulty(stream=True, max_tokens=2_000)) as answer:
        async for line in answer.aiter_lines():
            if '"content":"' in line and '"role"' not in line:
                break
    billed = await settled(running, request.node.name)
    assert 1 <= billed["completion_tokens"] < 200
    async with httpx.AsyncClient(verify=False) as direct:
        stats = [(await direct.get(f"{running.replica_url(name)}/sim/stats")).json() for name in REPLICAS]
    assert [each["active"] for each in stats] == [0, 0]


async def test_a_client_that_leaves_before_the_first_token_pays_nothing(
    running: Running, client: httpx.AsyncClient, request: pytest.FixtureRequest
) -> None:
    await break_replicas(running, *REPLICAS, kind="hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await client.post(CHAT, json=faulty(stream=False))
    billed = await settled(running, request.node.name)
    assert (billed["requests"], billed["prompt_tokens"], billed["completion_tokens"]) == (1, 0, 0)
    [tokens] = (await client.get("/v1/quota")).json()["limits"]
    assert tokens["used"] > 0, "a prefill is not free for those who hang up"


async def test_a_client_that_leaves_while_it_is_admitted_costs_nothing(
    running: Running, client: httpx.AsyncClient, request: pytest.FixtureRequest
) -> None:
    body = json.dumps(faulty(stream=True)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    token = client.headers["authorization"]
    for _ in range(50):
        _, writer = await asyncio.open_connection(*running.address)
        writer.write(f"{head}authorization: {token}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()
    await settled(running, request.node.name)
    [tokens] = (await client.get("/v1/quota")).json()["limits"]
    reached = sum(row["requests"] for row in running.usage("user") if row["user"] == request.node.name)
    assert tokens["used"] <= 300 * reached, "only what a replica saw is kept"


async def test_embeddings_are_no_stream(running: Running) -> None:
    headers = running.bearer("acme", "embed-stream", "open")
    async with running.client(headers) as plain:
        body = {"model": "demo", "input": ["hello"] * 100, "stream": True, "n": 7, "max_tokens": 99_999}
        answer = await plain.post("/v1/embeddings", json=body)
    assert answer.status_code == 200
    assert len(answer.json()["data"]) == 100
