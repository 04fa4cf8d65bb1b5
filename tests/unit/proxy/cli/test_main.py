import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from proxy import __version__
from proxy.cli import main
from proxy.cli.main import COMMANDS, tollway
from proxy.fatal import Fatal


def test_the_version() -> None:
    assert CliRunner().invoke(tollway, ["--version"]).stdout == f"tollway {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example(command: str) -> None:
    result = CliRunner().invoke(tollway, [command, "--help"])
    assert result.exit_code == 0, result.output
    assert "Example" in result.stdout
    assert f"tollway {command}" in result.stdout.split("Example")[1]


def test_the_help_lists_every_command() -> None:
    listed = CliRunner().invoke(tollway, ["--help"]).stdout.split("Commands:")[1]
    assert [line.split()[0] for line in listed.strip().splitlines()] == list(COMMANDS)


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(tollway, ["tokn"])
    assert result.exit_code == 2
    assert "No such command 'tokn'" in result.stderr


def test_only_the_command_that_runs_is_loaded() -> None:
    code = (
        "import sys; from proxy.cli.main import tollway; tollway(['--version'], standalone_mode=False);"
        "print(sorted({'pydantic', 'litestar', 'redis', 'httpx', 'jwt'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"


def test_what_only_the_operator_can_change_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def check() -> None:
        raise Fatal("the roof is on fire")

    monkeypatch.setattr(main.LazyGroup, "get_command", lambda *_: check)
    result = CliRunner().invoke(tollway, ["check"])
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: the roof is on fire\n")
