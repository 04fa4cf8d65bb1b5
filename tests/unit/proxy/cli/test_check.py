import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import tollway

PRODUCTION = Path(__file__).parents[4] / "deploy" / "examples" / "production.toml"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    return CliRunner()


def test_the_production_example_is_sound(cli: CliRunner) -> None:
    result = cli.invoke(tollway, ["check", str(PRODUCTION)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (f"{PRODUCTION}: ok (2 issuers, 3 models, 8 replicas, 3 plans, 3 tenants, 3 prices)\n")


def test_every_fault_is_a_line(cli: CliRunner, tmp_path: Path) -> None:
    text = PRODUCTION.read_text().replace("leeway_s", "leway_s")
    (tmp_path / "bad.toml").write_text(f'{text}\n[tenants.x]\nplans = ["y"]')
    result = cli.invoke(tollway, ["check", "bad.toml"])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "bad.toml: auth.leway_s: unknown key; did you mean leeway_s?",
        "bad.toml: tenants.x.plans[0]: no plan is named 'y'",
    ]


def test_a_program_reads_json(cli: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(PRODUCTION.read_text().replace("port = 8080", "port = -1"))
    result = cli.invoke(tollway, ["check", "--format", "json", "bad.toml"])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "file": "bad.toml",
        "ok": False,
        "faults": [{"path": "listen.port", "message": "must be greater than or equal to 0"}],
    }
    sound = json.loads(cli.invoke(tollway, ["check", "--format", "json", str(PRODUCTION)]).stdout)
    assert sound["ok"]
    assert sound["summary"]["replicas"] == 8


def test_the_environment_counts(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLWAY__LISTEN__PORT", "many")
    result = cli.invoke(tollway, ["check", str(PRODUCTION)])
    assert result.exit_code == 1
    assert "listen.port: must be a valid integer (set by TOLLWAY__LISTEN__PORT)" in result.stdout


def test_a_missing_file_is_a_fault(cli: CliRunner) -> None:
    result = cli.invoke(tollway, ["check", "nowhere.toml"])
    assert (result.exit_code, result.stdout) == (1, "nowhere.toml: cannot be read: No such file or directory\n")


def test_without_a_file_it_checks_what_the_other_commands_use(cli: CliRunner, tmp_path: Path) -> None:
    assert cli.invoke(tollway, ["check"]).exit_code == 0
    (tmp_path / "tollway.toml").write_text("listen.port = 1")
    assert "auth: is missing" in cli.invoke(tollway, ["check"]).stdout
