"""Clients that do not read what they asked for: the gateway holds little of it, and the replica is held back."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bare_client import ask
from tests.e2e.gateway import Running, gateway
from tests.e2e.test_cuts import CONFIG, elsewhere
from tests.sim_process import SimProcess, running_sim

STALLED = 50
TOKENS = 1_000
FRAME_BYTES_MIN = 1_500
"""Of a token with twenty alternatives: a stream has 1.5 MB at least, and fifty of them 75 MB."""
GROWTH_BYTES_MAX = 25 * 2**20
PATIENCE = {"TOLLWAY__LIMITS__IDLE_S_MAX": "120", "TOLLWAY__LIMITS__EXCHANGE_S_MAX": "120"}


@pytest.fixture
def sim() -> Iterator[SimProcess]:
    options = ("--decode-ms-per-token", "0", "--max-num-seqs", "256")
    with running_sim("--model", "telling", "--model", "silent", *options) as process:
        yield process


def resident_bytes(running: Running) -> int:
    """Return how much memory a gateway holds."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return 1_024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def test_fifty_stalled_readers_cost_little_memory_and_hold_their_replica_back(
    sim: SimProcess, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {"logprobs": True, "top_logprobs": 20, "max_tokens": TOKENS}
    with gateway(folder, CONFIG, **PATIENCE, **elsewhere(sim)) as running:
        frames = (await (await ask(running, "warm", **fields)).rest()).count(b"data: ")
        assert frames >= TOKENS
        before = resident_bytes(running)
        clients = [await ask(running, f"stalled-{at}", receive_bytes=4_096, **fields) for at in range(STALLED)]
        # All is generated, and yet no answer has ended: the rest waits in the replica.
        await sim.until(requests=1 + STALLED, running=0, waiting=0, active=STALLED)
        await asyncio.sleep(1)
        growth = resident_bytes(running) - before
        assert (await sim.stats())["active"] == STALLED
        assert running.metrics("tollway_inflight_requests") == STALLED
        with capsys.disabled():
            print(f"[{STALLED} stalled readers cost {growth / 2**20:.1f} MiB] ", end="")  # noqa: T201
        assert growth < GROWTH_BYTES_MAX
        for client in clients[1:]:
            client.leave()
        whole = await clients[0].rest()
        assert whole.count(b"data: ") == frames, "who reads on has all of it"
        assert len(whole) > TOKENS * FRAME_BYTES_MIN
        await running.eventually("tollway_reservations_open", 0, within_s=10)
        await sim.until(active=0)
