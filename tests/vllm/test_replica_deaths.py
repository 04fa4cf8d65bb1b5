"""Replicas that die under a stream: told in-band, billed as far as it came, and the other one serves meanwhile."""

import asyncio
import json
import os
import signal

import pytest

from proxy.billing.record import Source
from proxy.errors import Code
from tests.processes import alive
from tests.vllm.fleet import CHAT, REPLICAS, Fleet, chat, long_stream, record_of

LAST_STEP_TOKENS = 100
"""What the engine's own last frames tell beyond the last that went on: an abort has a usage, too."""
GONE_S_MAX = 45.0
"""vLLM takes its time to end."""


@pytest.fixture
async def both_back(fleet: Fleet) -> None:
    """Wait until the replica that the test before ended is back."""
    for replica in REPLICAS:
        await fleet.back(replica)


@pytest.mark.timeout(420)
@pytest.mark.usefixtures("both_back")
@pytest.mark.parametrize(
    ("victim", "number"),
    [("api", signal.SIGTERM), ("engine", signal.SIGKILL), ("api", signal.SIGKILL)],
    ids=["shutdown", "engine killed", "api killed"],
)
async def test_a_stream_whose_replica_dies(fleet: Fleet, victim: str, number: signal.Signals) -> None:
    user = f"{victim}-{number.name}"
    processes_of = {replica: fleet.processes(replica) for replica in REPLICAS}
    before = fleet.gateway.metrics("tollway_requests_total")
    async with fleet.client(user) as client, client.stream("POST", CHAT, json=long_stream()) as answer:
        replica = answer.headers["x-tollway-replica"]
        processes = processes_of[replica]
        lines = answer.aiter_lines()
        read = [await anext(lines) for _ in range(40)]
        os.kill(processes[victim], number)
        read += [line async for line in lines]
    frames = [line.removeprefix("data: ") for line in read if line]

    assert json.loads(frames[-1])["error"]["code"] == Code.STREAM_TRUNCATED
    assert "[DONE]" not in frames
    assert '"finish_reason":"abort"' not in "".join(frames)
    await fleet.settled()
    record = await record_of(fleet.gateway, user)
    told = json.loads(frames[-2])["usage"]
    print(f"[{user}: {told['completion_tokens']} tokens told, {record.completion_tokens} billed]")  # noqa: T201
    assert (record.outcome, record.source, record.replica) == (Code.STREAM_TRUNCATED, Source.CUT, replica)
    assert told["completion_tokens"] <= record.completion_tokens <= told["completion_tokens"] + LAST_STEP_TOKENS
    assert record.prompt_tokens == told["prompt_tokens"]
    assert fleet.gateway.metrics("tollway_requests_total") == before + 1

    async with fleet.client(f"{user}-next") as client:
        again = await client.post(CHAT, json=chat(max_tokens=5))
    assert again.status_code == 200, again.text
    assert again.headers["x-tollway-replica"] != replica
    async with asyncio.timeout(GONE_S_MAX):
        # An engine that outlives its API process holds its memory.
        while any(alive(pid) for pid in processes.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
