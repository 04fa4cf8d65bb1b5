"""The command's options reach the replica, and its import stays light."""

import subprocess
import sys

from click.testing import CliRunner

from proxy.cli.sim import sim as command
from tests.sim_process import running_sim

HEAVY = ("pydantic", "litestar", "redis", "httpx", "prometheus_client")


def test_help_has_an_example() -> None:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "Example: tollway sim --port" in result.output


def test_a_size_that_cannot_be_is_refused() -> None:
    result = CliRunner().invoke(command, ["--port", "0", "--max-num-seqs", "0"])
    assert result.exit_code == 2
    assert "--max-num-seqs" in result.output


async def test_options_reach_the_replica() -> None:
    with running_sim("--max-model-len", "123", "--model", "llama") as sim:
        models = await sim.ask("GET", "/v1/models")
    assert [(model["id"], model["max_model_len"]) for model in models["data"]] == [("llama", 123)]


def test_nothing_heavy_is_imported() -> None:
    code = f"import sys, proxy.cli.sim, engine.sim.server; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
