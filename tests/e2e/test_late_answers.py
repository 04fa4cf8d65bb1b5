"""A replica that answers one request twice: the second time where the answer to another tenant's should be."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.asks import CHAT, chat
from tests.e2e.gateway import ANYWHERE, Running, gateway_of
from tests.sim_process import SimProcess, running_sim

CONFIG = (
    ANYWHERE
    + """
[[models]]
name = "demo"
context_tokens = 8192
replicas = [{{ name = "demo-0", url = "http://{first}" }}, {{ name = "demo-1", url = "http://{second}" }}]

[plans.open]
limits = [{{ scope = "user", unit = "tokens", amount = 10_000_000, per = "day" }}]

[tenants]
acme.plans = ["open"]
globex.plans = ["open"]
"""
)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[Running, SimProcess]]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(running_sim("--decode-ms-per-token", "1")) for _ in range(2))
        config = tmp_path / "tollway.toml"
        config.write_text(CONFIG.format(first=first.address, second=second.address))
        yield stack.enter_context(gateway_of(config, tmp_path)), first


async def answer(running: Running, tenant: str, body: dict[str, Any]) -> tuple[str, bool, str]:
    """Return by which replica a tenant is answered, whether with its own answer, and that answer."""
    async with running.client(running.bearer(tenant)) as client:
        told = await client.post(CHAT, json=body)
        assert told.status_code == 200
        return told.headers["x-tollway-replica"], told.headers["x-request-id"] in told.text, told.text


@pytest.mark.parametrize("stream", [False, True])
async def test_nobody_gets_the_answer_of_another_tenant(started: tuple[Running, SimProcess], *, stream: bool) -> None:
    running, first = started
    body = chat(3, stream=stream)
    assert (await answer(running, "acme", body))[:2] == ("demo-0", True)
    await first.ask("POST", "/sim/faults", {"kind": "late", "count": 1})
    replica, own, acmes = await answer(running, "acme", body)
    assert (replica, own) == ("demo-0", True)
    replica, own, globexs = await answer(running, "globex", chat(2, stream=stream))
    assert (replica, own) == ("demo-1", True)
    assert acmes not in globexs
    assert running.metrics("tollway_upstream_failures_total", replica="demo-0", reason="foreign") == 1
    assert (await answer(running, "globex", body))[:2] == ("demo-0", True)
