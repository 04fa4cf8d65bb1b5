from pathlib import Path

from click.testing import CliRunner, Result

from proxy.cli.main import tollway


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tollway, ["up", *arguments])


def test_more_than_one_worker_is_refused() -> None:
    result = run("--workers", "2")
    assert result.exit_code == 2
    assert "more than one worker is not supported yet" in result.stderr


def test_a_config_with_faults_is_told_before_anything_starts(tmp_path: Path) -> None:
    config = tmp_path / "tollway.toml"
    config.write_text("[listen]\nport = 99999\n[typo]\n")
    result = run("--config", str(config))
    assert result.exit_code == 1
    assert "listen.port" in result.stderr
    assert "typo" in result.stderr
    assert list(tmp_path.iterdir()) == [config]


def test_help_has_an_example() -> None:
    assert "tollway up --config" in run("--help").stdout
