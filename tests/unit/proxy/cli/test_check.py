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
    *warnings, last = result.stdout.splitlines()
    assert last == f"{PRODUCTION}: ok (2 issuers, 3 models, 8 replicas, 3 plans, 3 tenants, 3 prices)"
    assert warnings == [
        f"{PRODUCTION}: warning: {path}: {message}"
        for path, message in [
            ("admin.host", "is every address: who reaches it reads all metrics and reloads the config"),
            ("auth.issuers[1].key_file", "/etc/tollway/scheduler.pem is not there"),
            ("redis.password_file", "/run/secrets/tollway/redis-password is not there"),
            ("routing.cache_secret_file", "/run/secrets/tollway/cache-secret is not there"),
        ]
    ]


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


OWN = """
auth.issuers = [{ issuer = "i", key_file = "i.pem" }]
models = [{ name = "m", context_tokens = 1000, replicas = [{ name = "r", url = "https://r", ca_file = "ca.pem" }] }]
plans.p.limits = [{ scope = "user", unit = "requests", amount = 5, per = "minute" }]
tenants.t = { plans = ["p"] }
"""


def test_a_file_that_cannot_be_used_is_a_fault_and_one_that_is_not_there_a_warning(
    cli: CliRunner, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    result = cli.invoke(tollway, ["check", "own.toml"])
    assert (result.exit_code, result.stdout.splitlines()[:2]) == (
        0,
        [
            f"own.toml: warning: auth.issuers[0].key_file: {tmp_path / 'i.pem'} is not there",
            f"own.toml: warning: models[0].replicas[0].ca_file: {tmp_path / 'ca.pem'} is not there",
        ],
    )
    (tmp_path / "ca.pem").write_text("no PEM")
    (tmp_path / "i.pem").mkdir()
    result = cli.invoke(tollway, ["check", "own.toml"])
    assert (result.exit_code, result.stdout.splitlines()) == (
        1,
        [
            f"own.toml: models[0].replicas[0].ca_file: {tmp_path / 'ca.pem'} holds no certificates in PEM",
            f"own.toml: auth.issuers[0].key_file: {tmp_path / 'i.pem'} cannot be read: Is a directory",
        ],
    )


def test_warnings_are_data_too(cli: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN.replace(', ca_file = "ca.pem"', ""))
    told = json.loads(cli.invoke(tollway, ["check", "--format", "json", "own.toml"]).stdout)
    message = f"{tmp_path / 'i.pem'} is not there"
    assert (told["ok"], told["warnings"]) == (True, [{"path": "auth.issuers[0].key_file", "message": message}])
