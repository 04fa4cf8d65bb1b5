"""An engine that generates, and one that has stalled, as the watch over a simulated replica sees them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from engine.fleet import generation, health
from engine.fleet.replica import Replica
from engine.wire.client import DirectUpstream
from proxy.compose.fleet import pooled
from proxy.observe.metrics import Metrics
from proxy.settings import load
from tests.exposition import total
from tests.record_vllm import chat
from tests.sim_process import SimProcess, running_sim

CHAT = "/v1/chat/completions"
LONG = (chat("", stream=True).body or {}) | {"max_tokens": 4_000, "ignore_eos": True}
SEEN_S_MAX = 20.0
CONFIG = """
[[auth.issuers]]
issuer = "tests"
algorithms = ["HS256"]
development = true

[[models]]
name = "demo"
context_tokens = 4096
replicas = [{{ name = "demo-0", url = "http://{}" }}]

[plans.all]
[tenants.acme]
plans = ["all"]
"""


class Watched:
    """A replica under watch, with a place taken on it."""

    def __init__(self, sim: SimProcess, replica: Replica, metrics: Metrics) -> None:
        self.sim, self.replica, self._metrics = sim, replica, metrics

    async def until(self, seen: Callable[[], object]) -> None:
        """Wait until the watch has seen something."""
        async with asyncio.timeout(SEEN_S_MAX):
            while not seen():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    @property
    def stalled(self) -> float:
        """Return what the metric says."""
        return total(self._metrics.render()[0].decode(), "tollway_replica_stalled", replica="demo-0")


@pytest.fixture
async def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    """Watch a simulated replica as the gateway does, and more often."""
    monkeypatch.setattr(health, "INTERVAL_S", 0.05)
    monkeypatch.setattr(generation, "LOOK_S", 0.1)
    monkeypatch.setattr(generation, "STILL_S_MAX", 0.5)
    metrics = Metrics()
    with running_sim("--decode-ms-per-token", "20") as sim:
        path = tmp_path / "tollway.toml"
        path.write_text(CONFIG.format(sim.address))
        settings = load(path, {})
        async with (
            DirectUpstream(1.0) as upstream,
            pooled(settings, {"demo-0": f"http://{sim.address}"}, upstream, metrics) as fleet,
        ):
            replica = fleet.pools["demo"]["demo-0"]
            with replica.lease(1, 10, expected_end_us=1):
                yield Watched(sim, replica, metrics)


async def test_an_engine_that_serves_anybody_is_seen_to_generate_until_it_is_done(watched: Watched) -> None:
    _, writer = await watched.sim.open(CHAT, LONG)
    loop = asyncio.get_running_loop()
    await watched.until(lambda: loop.time() - watched.replica.generating_at < 1)
    assert watched.replica.cause is None
    writer.close()
    await watched.until(lambda: loop.time() - watched.replica.generating_at > 1)
    assert watched.replica.cause is None, "nothing runs, and nothing has to come"


async def test_an_engine_that_runs_and_tells_no_token_is_told_until_it_goes_on(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await watched.sim.ask("POST", "/sim/faults", {"kind": "hang", "after_tokens": 3})
    _, writer = await watched.sim.open(CHAT, LONG)
    await watched.until(lambda: watched.replica.cause)
    assert (watched.replica.healthy, watched.stalled) == (True, 1)
    writer.close()
    await watched.until(lambda: watched.replica.cause is None)
    assert watched.stalled == 0
    told = [(line.msg, vars(line).get("reason", "")) for line in caplog.records]
    [(stalled, reason), (goes_on, _)] = [line for line in told if line[0].startswith("replica_")]
    assert (stalled, goes_on) == ("replica_stalled", "replica_goes_on")
    assert reason.endswith("while 1 requests run")
