"""`.venv-bench`: what only the bench needs from PyPI, installed at its first use, never built from source."""

import subprocess
import sys
from pathlib import Path

import click

from tests.bench.machine import Missing

ROOT = Path(__file__).parents[2]
VENV = ROOT / ".venv-bench"
BIN = VENV / "bin"
_INSTALL_S_MAX = 300.0


def install(package: str, version: str) -> None:
    """Have exactly this version of a package. Raises: Missing with pip's last word."""
    receipt = VENV / f".{package}-{version}"
    if receipt.exists():
        return
    click.echo(f"bench: installing {package} {version} into {VENV.name}, once", err=True)
    if not (BIN / "python").exists():
        _run(sys.executable, "-m", "venv", str(VENV))
    pip = (str(BIN / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    _run(*pip, "--only-binary", ":all:", f"{package}=={version}")
    receipt.touch()


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_INSTALL_S_MAX)
    except subprocess.TimeoutExpired:
        raise Missing(f"not installed within {_INSTALL_S_MAX:.0f} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
        raise Missing(f"could not be installed: {said[-1]}")
