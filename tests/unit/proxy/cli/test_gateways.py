"""`tollway gateways` before it reaches a Redis."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import tollway


def test_without_the_embedded_redis_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLWAY__REDIS__DATA_DIR", str(tmp_path))
    result = CliRunner().invoke(tollway, ["gateways", "forget", "01JB0000000000000000000000"])
    assert result.exit_code == 1
    assert "is not running" in result.output


@pytest.mark.parametrize("command", ["list", "forget"])
def test_the_help_has_an_example(command: str) -> None:
    result = CliRunner().invoke(tollway, ["gateways", command, "--help"])
    assert f"Example:\n  tollway gateways {command}" in result.output.replace("\n    ", "\n  ")
