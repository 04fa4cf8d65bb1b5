"""`tollway quota` before it reaches Redis: its arguments, and what it says when it cannot."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import tollway

ACME = ["--tenant", "acme"]
ADA = [*ACME, "--user", "ada"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLWAY__REDIS__DATA_DIR", str(tmp_path))


def run(*args: str) -> Result:
    return CliRunner().invoke(tollway, ["quota", *args])


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["show"], "Missing option '--tenant'"),
        (["show", "--tenant", "initech"], "no tenant is named 'initech' in the config"),
        (["show", *ACME, "--plan", "free"], "acme has no plan 'free', only pro"),
        (["show", *ACME, "--model", "gpt-5"], "the plan 'pro' has no model 'gpt-5'"),
        (["show", *ACME, "--user", "a\nb"], "printable characters"),
        (["reset", *ADA], "Missing option '--limit'"),
        (
            ["reset", *ADA, "--limit", "user-tokens-day"],
            "has no limit 'user-tokens-day', only user-requests-minute, user-",
        ),
        (
            ["reset", *ACME, "--limit", "user-tokens-minute"],
            "user-tokens-minute is a limit of each user: name one by --user",
        ),
        (["reset", *ADA, "--limit", "user-concurrent"], "comes back with the end of its request alone"),
        (["grant", *ADA, "--limit", "user-tokens-minute"], "Missing option '--amount'"),
        (["grant", *ADA, "--limit", "user-tokens-minute", "--amount", "0"], "0 is not in the range"),
        (["grant", *ADA, "--limit", "user-tokens-minute", "--amount", "9007199254740992"], "is not in the range"),
        (["take", *ADA], "No such command 'take'"),
    ],
)
def test_a_wrong_argument_is_told_and_ends_with_2(args: list[str], told: str) -> None:
    result = run(*args)
    assert (result.exit_code, told in " ".join(result.output.split())) == (2, True), result.output


@pytest.mark.parametrize("command", ["show", "grant", "reset"])
def test_every_command_helps_with_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"tollway quota {command}" in result.output.split("Example")[1]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["show", *ADA], "so nothing can be shown"),
        (["reset", *ADA, "--limit", "user-tokens-minute"], "it may have been given: look at `tollway quota show`"),
        (["grant", *ADA, "--limit", "user-tokens-minute", "--amount", "5"], "it may have been given"),
    ],
)
def test_without_a_redis_it_says_so(
    args: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is not running; `tollway up` starts it" in run(*args).output
    monkeypatch.setenv("TOLLWAY__REDIS__URL", f"unix://{tmp_path}/nobody.sock")
    result = run(*args)
    assert result.exit_code == 1
    assert result.output.startswith("Error: Redis does not answer")
    assert told in result.output
