"""A replica that dies without a word: nothing listens there any more, and what was open stays silent."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.asks import CHAT, chat
from tests.e2e.gateway import ANYWHERE, Running, gateway_of
from tests.ports import claimed_port
from tests.sim_process import running_sim

CONFIG = (
    ANYWHERE
    + """
[[models]]
name = "demo"
context_tokens = 8192
replicas = [{{ name = "demo-0", url = "http://{first}" }}, {{ name = "demo-1", url = "http://127.0.0.1:{second}" }}]

[limits]
gone_s_max = 1.0

[plans.open]
limits = [{{ scope = "user", unit = "tokens", amount = 10_000_000, per = "day" }}]

[tenants.acme]
plans = ["open"]
"""
)
CUT_S_MAX = 30.0
"""Three looks and `gone_s_max`, on a busy machine; without them it would be minutes."""


class Asker:
    """A client in one phase of its answer."""

    def __init__(self, running: Running, user: str, **asks: Any) -> None:
        self.user = user
        self.began = asyncio.Event()
        """Set by its first bytes."""
        self.status, self.text = 0, ""
        self._running = running
        self._body = chat(400, **asks)

    async def ask(self) -> None:
        """Ask, and read until it is over."""
        headers = self._running.bearer("acme", self.user)
        async with (
            self._running.client(headers) as client,
            client.stream("POST", CHAT, json=self._body) as answer,
        ):
            self.status, self.replica = answer.status_code, answer.headers.get("x-tollway-replica")
            async for text in answer.aiter_text():
                self.text += text
                self.began.set()

    def record(self) -> dict[str, Any]:
        """Return what the log says of its exchange."""
        [record] = [line for line in _log(self._running, "exchange") if line["user"] == self.user]
        return record


def _log(running: Running, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (running.folder / "log").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


@pytest.fixture
async def gone(tmp_path: Path) -> AsyncIterator[tuple[Running, dict[str, Asker]]]:
    """Have exchanges in each phase on a replica that dies then, while another has come up."""
    with ExitStack() as stack:
        port = stack.enter_context(claimed_port())
        first = stack.enter_context(running_sim("--decode-ms-per-token", "50"))
        config = tmp_path / "tollway.toml"
        config.write_text(CONFIG.format(first=first.address, second=port))
        running = stack.enter_context(gateway_of(config, tmp_path))
        askers = {
            "middle": Asker(running, "middle", stream=True, stream_options={"include_usage": True}),
            "first": Asker(running, "first", stream=True),
            "whole": Asker(running, "whole"),
        }
        async with asyncio.timeout(60), asyncio.TaskGroup() as asking:
            asking.create_task(askers["middle"].ask())
            await askers["middle"].began.wait()
            await first.ask("POST", "/sim/faults", {"kind": "hang"})
            asking.create_task(askers["first"].ask())
            asking.create_task(askers["whole"].ask())
            await running.eventually("tollway_inflight_requests", 3, within_s=10)
            stack.enter_context(running_sim("--port", str(port), "--decode-ms-per-token", "1"))
            await running.eventually("tollway_replica_up", 2, within_s=10)
            await first.ask("POST", "/sim/vanish")
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < CUT_S_MAX
        await running.eventually("tollway_reservations_open", 0, within_s=10)
        yield running, askers


async def test_what_runs_on_it_is_cut_or_asked_of_another_and_operators_read_why(
    gone: tuple[Running, dict[str, Asker]],
) -> None:
    running, askers = gone
    middle = askers["middle"]
    frames = [frame.removeprefix("data: ") for frame in middle.text.split("\n\n") if frame]
    assert json.loads(frames[-1])["error"]["code"] == "stream_truncated"
    assert "(gone)" in frames[-1]
    record = middle.record()
    told = frames[:-1]
    assert (record["outcome"], record["source"], record["replica"]) == ("stream_truncated", "cut", "demo-0")
    assert 1 <= record["completion_tokens"] == len([frame for frame in told if '"delta":{"content"' in frame])
    for phase in ("first", "whole"):
        asker, record = askers[phase], askers[phase].record()
        assert (asker.status, asker.replica, record["outcome"], record["attempts"]) == (200, "demo-1", "ok", 2), phase
        assert record["wasted_tokens"] == 0
        assert [each["outcome"] for each in record["tries"]] == ["gone", "ok"]

    [shown, _] = json.loads(running.admin("/admin/replicas"))["data"]
    assert (shown["name"], shown["healthy"], shown["cause"]) == ("demo-0", False, "Connection refused")
    [down] = [line for line in _log(running, "replica_down") if line["replica"] == "demo-0"]
    assert (down["url"], down["reason"]) == (shown["url"], "Connection refused")
    assert running.metrics("tollway_upstream_failures_total", replica="demo-0", reason="gone") == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_gateway_without_any_replica_does_not_say_that_it_is_ready(tmp_path: Path, workers: int) -> None:
    config = tmp_path / "tollway.toml"
    with claimed_port() as first, claimed_port() as second:
        config.write_text(CONFIG.format(first=f"127.0.0.1:{first}", second=second))
        with gateway_of(config, tmp_path, workers=workers) as running:
            down = [line for line in running.banner.splitlines() if line.startswith("  demo-")]
            shown = json.loads(running.admin("/admin/replicas"))["data"]
    assert "Tollway is ready" not in running.banner
    assert "NOT ready" in running.banner
    assert [line.partition("   down: ")[2] for line in down] == ["Connection refused"] * 2
    assert [each["cause"] for each in shown] == ["Connection refused"] * 2
