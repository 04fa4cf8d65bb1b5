"""`tollway revoke` before it reaches Redis: its arguments, and what it says when it cannot."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import tollway

PRODUCTION = Path(__file__).parents[4] / "deploy" / "examples" / "production.toml"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLWAY__REDIS__DATA_DIR", str(tmp_path))


def run(*args: str) -> Result:
    return CliRunner().invoke(tollway, ["revoke", *args])


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["user", "ada"], "Missing option '--tenant'"),
        (["user", "ada", "--tenant", "initech"], "no tenant is named 'initech' in the config"),
        (["user", "a\nb", "--tenant", "acme"], "printable characters"),
        (["user", "", "--tenant", "acme"], "printable characters"),
        (["tenant", "initech"], "no tenant is named 'initech' in the config"),
        (["tenant", "acme", "--until", "soon"], "'soon' is not a day such as"),
        (["jti", "t1", "--issuer", "nobody"], "no issuer is named 'nobody' in the config"),
        (["jti", ""], "is not 1 to 256 characters long"),
        (["jti", "x" * 257], "is not 1 to 256 characters long"),
        (["lift", "ada"], "'ada' is no id such as user:acme/ada"),
        (["group", "g"], "No such command 'group'"),
    ],
)
def test_a_wrong_argument_is_told_and_ends_with_2(args: list[str], told: str) -> None:
    result = run(*args)
    assert (result.exit_code, told in result.output) == (2, True), result.output


@pytest.mark.parametrize("command", ["jti", "user", "tenant", "list", "lift"])
def test_every_command_helps_with_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"tollway revoke {command}" in result.output.split("Example")[1]


@pytest.mark.parametrize("args", [["user", "ada", "--tenant", "acme"], ["list"], ["lift", "tenant:acme"]])
def test_without_a_redis_it_says_so_in_a_line(args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(*args)
    assert result.exit_code == 1
    assert "is not running; `tollway up` starts it" in result.output
    monkeypatch.setenv("TOLLWAY__REDIS__URL", f"unix://{tmp_path}/nobody.sock")
    result = run(*args)
    assert result.exit_code == 1
    assert result.output.startswith("Error: Redis does not answer;")
    assert result.output.count("\n") == 1
