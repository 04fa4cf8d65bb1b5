"""A gateway that is told to stop under load: what it lets end, what it cuts, and that everyone hears of it."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.bare_client import TOKEN, Client, ask
from tests.e2e.gateway import Running, gateway_of
from tests.sim_process import SimProcess, running_sim

CONFIG = Path(__file__).with_name("cuts.toml")
STREAMS = 40
EXIT_S_MAX = 30.0


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    with running_sim(
        "--model", "telling", "--model", "silent", "--decode-ms-per-token", "20", "--max-num-seqs", "256"
    ) as process:
        yield process


def patient(sim: SimProcess, **limits: str) -> dict[str, str]:
    """Return the environment of a gateway that cuts nothing before it is told to stop."""
    replicas = {f"TOLLWAY__MODELS__{model}__REPLICAS__0__URL": f"http://{sim.address}" for model in (0, 1)}
    bounds = {"exchange_s_max": "100", "ttft_s_max": "60", "idle_s_max": "60"} | limits
    return replicas | {f"TOLLWAY__LIMITS__{name.upper()}": value for name, value in bounds.items()}


async def with_half_a_body(running: Running) -> Client:
    reader, writer = await asyncio.open_connection(*running.address)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: {running.bearer()['authorization']}\r\n"
    writer.write(f"{head}content-length: 10000\r\n\r\n".encode() + b"{" * 1_000)
    return Client(reader, writer)


def logged(running: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (running.folder / "log").read_text().splitlines()]


def billed(running: Running) -> Counter[str]:
    """Return how many exchanges each user had, after a stop that left no trace of trouble."""
    lines = logged(running)
    assert [line for line in lines if "exception" in line or "ASGI" in line["event"]] == []
    return Counter(line["user"] for line in lines if line["event"] == "exchange")


async def test_streams_end_whole_while_nobody_new_is_let_in(sim: SimProcess, folder: Path) -> None:
    with gateway_of(CONFIG, folder, environment=patient(sim, drain_s_max="30", drain_notice_s="1")) as running:
        clients = [await ask(running, f"whole-{at}", max_tokens=150) for at in range(STREAMS)]
        for client in clients:
            await client.until(TOKEN)
        running.process.send_signal(signal.SIGTERM)
        async with running.client() as balancer:
            async with asyncio.timeout(5):
                while (ready := (await balancer.get("/health/ready"))).status_code == 200:
                    pass
            assert ready.json()["status"] == "draining"
            assert ready.headers["connection"] == "close"
            await running.until_refused()
        answers = [await client.rest() for client in clients]
        assert all(answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for answer in answers)
        assert await asyncio.to_thread(running.process.wait, EXIT_S_MAX) == 0
        assert set(billed(running).values()) == {1}
        assert {line["outcome"] for line in logged(running) if line["event"] == "exchange"} == {"ok"}


@pytest.mark.parametrize("hurried", [False, True], ids=["past the drain", "at a second signal"])
async def test_everyone_who_is_cut_hears_of_it_and_is_billed_once(
    sim: SimProcess, folder: Path, *, hurried: bool
) -> None:
    environment = patient(sim, drain_s_max="600" if hurried else "1")
    with gateway_of(CONFIG, folder, environment=environment) as running:
        streams = [await ask(running, f"stream-{at}", model=("silent", "telling")[at % 2]) for at in range(STREAMS)]
        plain = [await ask(running, f"plain-{at}", stream=False) for at in range(5)]
        halves = [await with_half_a_body(running) for _ in range(5)]
        for client in streams:
            await client.until(TOKEN)
        running.process.send_signal(signal.SIGTERM)
        if hurried:
            await running.until_refused()
            running.process.send_signal(signal.SIGTERM)
        told = [await client.rest() for client in streams]
        assert all(b'"code":"stream_truncated"' in answer and b"[DONE]" not in answer for answer in told)
        told = [await client.rest() for client in (*plain, *halves)]
        assert {answer[:12] for answer in told} == {b"HTTP/1.1 503"}
        assert all(b"The gateway is shutting down" in answer for answer in told)
        assert await asyncio.to_thread(running.process.wait, EXIT_S_MAX) == 0
        counts = billed(running)
        assert [counts[f"stream-{at}"] for at in range(STREAMS)] == [1] * STREAMS
