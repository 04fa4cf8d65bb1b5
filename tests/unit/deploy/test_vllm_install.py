"""The installer of vLLM on machines that cannot run it: one clear line, nothing installed, nothing removed."""

import os
import subprocess
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[3] / "deploy" / "vllm" / "install.sh"


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """Commands that stand before the machine's own; this machine has no GPU by them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    fake(folder, "nvidia-smi", "exit 1")
    fake(folder, "uname", "echo Linux x86_64")
    return folder


def fake(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def install(target: Path, bin_dir: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        [INSTALL, target], capture_output=True, text=True, check=False, timeout=60, env=env, stdin=subprocess.DEVNULL
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == os.EX_UNAVAILABLE
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("tollway: cannot run vLLM here: ")
    return line


def test_another_system_without_a_gpu_is_refused(tmp_path: Path, bin_dir: Path) -> None:
    fake(bin_dir, "uname", "echo Darwin arm64")
    assert "takes Linux on x86-64, this is Darwin arm64" in refused(install(tmp_path / "vllm", bin_dir))
    assert not (tmp_path / "vllm").exists()


def test_too_little_memory_is_refused(tmp_path: Path, bin_dir: Path) -> None:
    fake(bin_dir, "grep", "exit 0")
    fake(bin_dir, "awk", "echo 100")
    assert "4096 MiB of free memory, there are 100" in refused(install(tmp_path / "vllm", bin_dir))


def test_a_cpu_without_avx2_is_refused(tmp_path: Path, bin_dir: Path) -> None:
    fake(bin_dir, "grep", "exit 1")
    assert "no AVX2" in refused(install(tmp_path / "vllm", bin_dir))


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, bin_dir: Path) -> None:
    fake(bin_dir, "grep", "exit 0")
    fake(bin_dir, "awk", "cat >/dev/null; echo 8192")
    fake(bin_dir, "python3.11", "exit 0")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1").touch()
    done = install(tmp_path / "thesis", bin_dir)
    assert done.returncode == 1, "a mistake of the caller, not of the machine"
    assert "is not a virtual environment" in done.stderr
    assert (tmp_path / "thesis" / "chapter1").exists()
