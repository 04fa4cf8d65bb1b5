"""Real vLLM, started once for the session: `make test-vllm` has installed it, or said why it cannot be."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.gateway import ANYWHERE, Running, gateway_of
from tests.processes import descendants, wait_until_gone
from tests.vllm.fleet import Fleet

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".venv-vllm"
CONFIG = Path(__file__).with_name("tollway.toml")
READY_S_MAX = 320.0
"""vLLM has 300 s to start, all replicas at once; the rest is the gateway's."""

IMPATIENT = (
    ANYWHERE
    + """
[[models]]
name = "demo"
context_tokens = 2048

[[models.replicas]]
name = "demo-0"
url = "{url}"

[limits]
ttft_s_max = 3.0
idle_s_max = 3.0
attempts_max = 1

[plans.open]
limits = [{{ scope = "user", unit = "concurrent", amount = 1000 }}]

[tenants.acme]
plans = ["open"]
"""
)


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run the gateway and its replicas for the session; nothing of them is left behind."""
    if not (HOME / ".ready").exists():
        pytest.fail("vLLM is not installed here: run `make test-vllm`, or deploy/vllm/install.sh .venv-vllm")
    folder = tmp_path_factory.mktemp("vllm")
    (folder / HOME.name).symlink_to(HOME)
    with gateway_of(CONFIG, folder, ready_s_max=READY_S_MAX) as started:
        yield Fleet(started)
        processes = descendants(started.process.pid)
    wait_until_gone(processes)


@pytest.fixture(scope="session")
def impatient(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run a second gateway, of short deadlines, over the first replica of the other."""
    folder = tmp_path_factory.mktemp("impatient")
    config = folder / "tollway.toml"
    config.write_text(IMPATIENT.format(url=fleet.gateway.replica_url("demo-0")))
    with gateway_of(config, folder) as started:
        yield started
