"""
The wheel, as somebody gets it who has no checkout: in an environment of its own, run from another folder.

It stands on the lowest versions that `pyproject.toml` takes (`deploy/requirements/lowest.txt`), on the oldest and the
newest Python at hand, with the server that the extra `embedded` brings. What it takes from the package index it takes
by hash. `make test-wheel` runs it.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from proxy.cli.main import COMMANDS
from tests.raw_http import connected

ROOT = Path(__file__).parents[2]
PACKAGES = ("proxy", "engine", "policies")
FOREIGN = ("PYTHON", "TOLLWAY", "VIRTUAL_ENV")
"""Variables of the checkout's environment, and of whoever runs the tests."""
INSTALL_S_MAX = 600
READY_S_MAX = 60.0
IMPORTS_ALL = """
import importlib, pkgutil
for name in ("proxy", "engine", "policies"):
    package = importlib.import_module(name)
    print(package.__path__[0])
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(module.name)
"""


def pythons() -> list[str]:
    """Return the oldest and the newest Python at hand, as `VERSION PATH`."""
    setup = ROOT / "deploy" / "setup.sh"
    found = subprocess.run([setup, "--pythons"], capture_output=True, text=True, check=True).stdout.splitlines()
    found.sort(key=lambda line: int(line.split()[0].partition(".")[2]))
    return [found[0], *found[1:][-1:]]


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel, and a folder from which it is used."""

    environment: Path
    folder: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, as a shell would that knows no other."""
        program, *args = command
        return subprocess.run(
            [self.environment / "bin" / program, *args],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=check,
            timeout=INSTALL_S_MAX,
        )

    @property
    def variables(self) -> dict[str, str]:
        """Return its variables: no server of the machine's is on its PATH."""
        own = {"PATH": str(self.environment / "bin"), "TOLLWAY__LISTEN__PORT": "0", "TOLLWAY__ADMIN__PORT": "0"}
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TOLLWAY", "PYTEST"))
        }
        return kept | own

    @contextmanager
    def up(self) -> Iterator[str]:
        """Run the gateway on its defaults for the block; give its address. SIGTERM ends it, in good order."""
        with (self.folder / "printed").open("w") as printed, (self.folder / "log").open("w") as log:
            command = [str(self.environment / "bin" / "tollway"), "up"]
            process = subprocess.Popen(command, cwd=self.folder, env=self.variables, stdout=printed, stderr=log)
        try:
            yield self._address(process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(READY_S_MAX) == 0
            assert "Tollway has stopped." in (self.folder / "printed").read_text()
        finally:
            process.kill()
            process.wait()

    def _address(self, process: subprocess.Popen[bytes]) -> str:
        deadline = time.monotonic() + READY_S_MAX
        while not (found := re.search(r"base URL +http://(\S+)/v1", (self.folder / "printed").read_text())):
            assert process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "it was not ready in time"
            time.sleep(0.05)
        return found[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = ("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    subprocess.run([sys.executable, "-m", *build], check=True)
    [made] = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module", params=pythons(), ids=lambda line: f"python-{line.split()[0]}")
def installed(request: pytest.FixtureRequest, wheel: Path) -> Iterator[Installed]:
    python = request.param.partition(" ")[2]
    with TemporaryDirectory(prefix="tw-") as name:
        there = Installed(Path(name) / "env", Path(name) / "elsewhere")
        there.folder.mkdir()
        subprocess.run([python, "-m", "venv", there.environment], check=True)
        install = ("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        there.run(*install, "--require-hashes", "-r", str(ROOT / "deploy" / "requirements" / "lowest.txt"))
        there.run(*install, "--no-deps", str(wheel))
        yield there


@pytest.fixture(scope="module")
def address(installed: Installed) -> Iterator[str]:
    with installed.up() as address:
        yield address


def test_the_lowest_versions_are_what_it_says_it_takes(installed: Installed) -> None:
    assert "No broken requirements found." in installed.run("python", "-m", "pip", "check").stdout


def test_it_holds_every_module_and_every_file_that_they_read(installed: Installed) -> None:
    places = installed.run("python", "-c", IMPORTS_ALL).stdout.split()
    assert len(places) == len(PACKAGES)
    for package, place in zip(PACKAGES, places, strict=True):
        assert Path(place).is_relative_to(installed.environment)
        assert files(Path(place)) == files(ROOT / package)


def files(package: Path) -> set[str]:
    return {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_it_tells_what_it_can_do(installed: Installed) -> None:
    told = installed.run("tollway", "--help").stdout
    assert set(COMMANDS) <= set(re.findall(r"^  (\w+) ", told, re.MULTILINE))
    for command in COMMANDS:
        assert f"Usage: tollway {command}" in installed.run("tollway", command, "--help").stdout


def test_it_checks_a_config(installed: Installed) -> None:
    assert installed.run("tollway", "check").returncode == 0
    (installed.folder / "empty.toml").touch()
    empty = installed.run("tollway", "check", "empty.toml", check=False)
    assert empty.returncode == 1
    assert "empty.toml: models: is missing" in empty.stdout


def test_it_answers_a_chat_and_bills_it(installed: Installed, address: str) -> None:
    token = installed.run("tollway", "token", "--tenant", "acme", "--user", "ada").stdout.strip()
    answer = httpx.post(
        f"http://{address}/v1/chat/completions",
        headers={"authorization": f"Bearer {token}"},
        json={"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    used = answer.json()["usage"]
    [row] = json.loads(installed.run("tollway", "usage", "--format", "json").stdout)["rows"]
    assert (row["tenant"], row["user"], row["model"], row["requests"]) == ("acme", "ada", "demo", 1)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (used["prompt_tokens"], used["completion_tokens"])


def test_it_answers_two_requests_that_came_together(address: str) -> None:
    asked = b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n"
    host, port = address.split(":")

    async def ask() -> list[int]:
        async with connected(host, int(port)) as client:
            await client.send(asked * 2)
            return [(await client.answer()).status for _ in range(2)]

    assert asyncio.run(ask()) == [200, 200]
