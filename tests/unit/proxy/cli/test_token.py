import asyncio
import os
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner, Result

from proxy.catalog import Catalog
from proxy.cli.main import tollway
from proxy.identity.principal import Principal
from proxy.identity.tokens import Verifier
from proxy.settings import load

PRODUCTION = Path(__file__).parents[4] / "deploy" / "examples" / "production.toml"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TOLLWAY__")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tollway, ["token", *arguments])


def principal(token: str) -> Principal:
    settings = load(None, {})
    return asyncio.run(Verifier.of(settings, Catalog.of(settings)).verify(token))


def test_a_token_stands_alone_on_stdout_and_the_gateway_believes_it() -> None:
    result = run("--tenant", "acme", "--user", "ada", "--scope", "usage:read", "--scope", "admin", "--plan", "pro")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert principal(result.stdout.strip()) == Principal("acme", "ada", "pro", frozenset({"admin", "usage:read"}))


def test_where_no_gateway_runs_it_says_which_key_it_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLWAY__REDIS__DATA_DIR", str(tmp_path / "here"))
    result = run("--tenant", "acme", "--user", "ada")
    assert result.stdout.count("\n") == 1
    assert f"Signed with {tmp_path / 'here' / 'development.key'}." in result.stderr
    assert f"No gateway is seen to run in {tmp_path / 'here'}" in result.stderr


def test_beside_a_running_gateway_it_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.token.address", lambda data_dir: f"unix://{data_dir}/redis.sock")
    result = run("--tenant", "acme", "--user", "ada")
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_token_without_a_plan_has_the_tenants_first() -> None:
    assert principal(run("--tenant", "globex", "--user", "bob").stdout.strip()).plan == "free"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tenant", "initech", "--user", "u"], "no tenant is named 'initech'"),
        (["--tenant", "acme", "--user", "u", "--plan", "free"], "acme has no plan 'free', only pro"),
        (["--tenant", "acme", "--user", ""], "The token's user is not"),
        (["--tenant", "acme", "--user", "a\nb"], "The token's user is not"),
        (["--tenant", "acme", "--user", " "], "The token's user begins or ends with a blank"),
        (["--tenant", "acme", "--user", "u", "--scope", ""], "The token's scope is not"),
        (
            ["--tenant", "acme", "--user", "u", "--scope", "usage:read", "--scope", "bill"],
            "config lists no bill in",
        ),
        (["--tenant", "acme", "--user", "u", "--ttl", "forever"], "is not a duration"),
        (["--tenant", "acme", "--user", "u", "--ttl", "0s"], "is not a duration"),
        (["--tenant", "acme", "--user", "u", "--ttl", "367d"], "is not a duration"),
        (["--user", "u"], "Missing option '--tenant'"),
    ],
)
def test_what_the_gateway_would_refuse_is_not_minted(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_config_without_a_development_issuer_mints_nothing() -> None:
    result = run("--tenant", "search", "--user", "u", "--config", str(PRODUCTION))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: the config has no development issuer")


def test_a_broken_config_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "tollway.toml").write_text("listen = ")
    result = run("--tenant", "acme", "--user", "u")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: tollway.toml: is not TOML: ")


@pytest.mark.parametrize(("ttl", "seconds"), [("45s", 45), ("30m", 1800), ("1h", 3600), ("7d", 604_800)])
def test_a_token_lasts_as_long_as_asked(ttl: str, seconds: int) -> None:
    said = jwt.decode(
        run("--tenant", "acme", "--user", "u", "--ttl", ttl).stdout.strip(), options={"verify_signature": False}
    )
    assert said["exp"] - said["iat"] == seconds
