from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import tollway


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tollway, ["up", *arguments])


@pytest.mark.parametrize("workers", ["0", "65", "two"])
def test_as_many_workers_as_are_possible(workers: str) -> None:
    result = run("--workers", workers)
    assert result.exit_code == 2
    assert "--workers" in result.stderr


def test_more_workers_than_a_replica_has_sequences_are_one_clear_line(tmp_path: Path) -> None:
    config = tmp_path / "tollway.toml"
    config.write_text((Path(__file__).parents[3] / "e2e" / "tollway.toml").read_text())
    result = run("--config", str(config), "--workers", "3")
    assert result.exit_code == 1
    assert result.stderr == "Error: 3 workers need a sequence each on every replica: narrow-0 of narrow has 2\n"
    assert list(tmp_path.iterdir()) == [config]


def test_a_config_with_faults_is_told_before_anything_starts(tmp_path: Path) -> None:
    config = tmp_path / "tollway.toml"
    config.write_text("[listen]\nport = 99999\n[typo]\n")
    result = run("--config", str(config))
    assert result.exit_code == 1
    assert "listen.port" in result.stderr
    assert "typo" in result.stderr
    assert list(tmp_path.iterdir()) == [config]


def test_help_has_an_example() -> None:
    shown = run("--help").stdout
    assert "tollway up --config" in shown
    assert "--workers 8" in shown
