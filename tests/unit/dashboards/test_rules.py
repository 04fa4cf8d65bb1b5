"""The rules load, and fire when their tests say so."""

import shutil
import subprocess
from pathlib import Path

import pytest

RULES = Path(__file__).parents[3] / "dashboards" / "rules"

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


@pytest.mark.parametrize("command", ["check", "test"])
def test_promtool_agrees(command: str) -> None:
    files = sorted(RULES.glob("*.yml") if command == "check" else (RULES / "tests").glob("*.yml"))
    assert files
    run = subprocess.run(["promtool", command, "rules", *files], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
