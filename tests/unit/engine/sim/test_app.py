"""The simulator is an ASGI callable like any other: in process, without a server."""

from typing import Any

import httpx
import pytest

from engine.sim.app import Simulator
from engine.sim.config import SimConfig

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}


def client(simulator: Simulator) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(simulator)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://sim")


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(SimConfig(prefill_us_per_token=0, decode_us_per_token=0))


async def test_it_answers_in_process(simulator: Simulator) -> None:
    async with client(simulator) as http:
        answer = (await http.post("/v1/chat/completions", json=CHAT)).json()
        stats = (await http.get("/sim/stats")).json()
    assert answer["usage"]["completion_tokens"] == stats["generated_tokens"] == 3
    assert (stats["requests"], stats["active"], stats["aborted"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("POST", "/health", 405), ("GET", "/health", 200), ("GET", "/metrics", 200)],
)
async def test_routes(simulator: Simulator, method: str, path: str, status: int) -> None:
    async with client(simulator) as http:
        assert (await http.request(method, path)).status_code == status


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"messages": "hello"}),
        ("chat/completions", {"messages": [1]}),
        ("chat/completions", {"messages": [{"role": "user", "content": ["x"]}]}),
        ("completions", {"prompt": 5}),
        ("completions", {"prompt": ["hello", 5]}),
        ("completions", {"prompt": "hello", "stop": [1]}),
        ("completions", {"prompt": "hello", "cache_salt": [1]}),
        ("completions", {"prompt": "hello", "logprobs": "two"}),
        ("completions", {"prompt": "hello", "stream": True, "stream_options": 3}),
        ("embeddings", {"input": {"a": 1}}),
    ],
)
async def test_a_misshapen_body_is_a_400(simulator: Simulator, path: str, body: dict[str, Any]) -> None:
    async with client(simulator) as http:
        answer = await http.post(f"/v1/{path}", json=body)
    assert answer.status_code == answer.json()["error"]["code"] == 400


async def test_a_body_that_never_comes_whole_is_a_hang_up(simulator: Simulator) -> None:
    parts: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]
    messages = iter(parts)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await simulator({"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}, receive, send)
    async with client(simulator) as http:
        assert (await http.get("/sim/stats")).json()["aborted"] == 1
    assert sent == []


async def test_resetting_the_prefix_cache_forgets(simulator: Simulator) -> None:
    prompt = {"model": "demo", "prompt": list(range(100)), "max_tokens": 1}
    cached = []
    async with client(simulator) as http:
        for reset in (False, False, True):
            if reset:
                await http.post("/sim/reset_prefix_cache")
            usage = (await http.post("/v1/completions", json=prompt)).json()["usage"]
            cached.append(usage["prompt_tokens_details"]["cached_tokens"])
    assert cached == [0, 96, 0]
