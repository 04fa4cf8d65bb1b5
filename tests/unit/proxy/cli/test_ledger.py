"""`tollway ledger` before it reaches a Redis."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import tollway


def test_without_the_embedded_redis_it_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLWAY__REDIS__DATA_DIR", str(tmp_path))
    result = CliRunner().invoke(tollway, ["ledger", "accept-empty", "--yes"])
    assert result.exit_code == 1
    assert "is not running" in result.output


def test_the_command_says_what_it_does_not_do() -> None:
    result = CliRunner().invoke(tollway, ["ledger", "accept-empty", "--help"])
    assert "Restore a backup instead" in " ".join(result.output.split())
