"""
What `deploy/` promises, as far as it can be told without a container engine: its files fit together and name what is
there.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from proxy.cli.main import tollway

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return made


def dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")


def copied() -> list[str]:
    """What the Dockerfile takes from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", dockerfile(), re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


@pytest.mark.parametrize("source", copied())
def test_what_the_image_copies_is_there_and_reaches_the_builder(source: str) -> None:
    assert (ROOT / source).exists()
    assert f"!{source}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_image_holds_every_package_of_the_wheel() -> None:
    assert {"proxy", "engine", "policies"} <= set(copied())


def test_the_image_runs_as_nobody_special_and_is_checked() -> None:
    assert re.search(r"^USER 10001:10001$", dockerfile(), re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*/health/live", dockerfile(), re.MULTILINE)


@pytest.mark.parametrize("name", ["run.txt", "dev.txt", "lowest.txt"])
def test_every_requirement_is_pinned_by_hash_and_names_no_place(name: str) -> None:
    text = (DEPLOY / "requirements" / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert "==" in line
        assert "--hash=sha256:" in line
    assert "://" not in text


def test_the_image_gets_no_development_tools() -> None:
    assert "dev.txt" not in dockerfile()
    assert not re.search(r"^(pytest|mypy|ruff)==", (DEPLOY / "requirements" / "run.txt").read_text(), re.MULTILINE)


def test_compose_waits_for_services_that_are_there(services: dict[str, Any]) -> None:
    for service in services.values():
        for other, wanted in service.get("depends_on", {}).items():
            assert wanted["condition"] == "service_healthy"
            assert "healthcheck" in services[other]


def test_compose_mounts_and_builds_files_that_are_there(services: dict[str, Any]) -> None:
    for service in services.values():
        if build := service.get("build"):
            assert (DEPLOY / build["context"] / build["dockerfile"]).exists()
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists()


def test_compose_publishes_nothing_beyond_this_machine(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_redis_of_compose_is_one_that_the_gateway_takes(services: dict[str, Any]) -> None:
    command = " ".join(services["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_config_of_compose_has_no_faults_and_names_the_services(services: dict[str, Any]) -> None:
    config = DEPLOY / "compose.toml"
    checked = CliRunner().invoke(tollway, ["check", str(config)])
    assert checked.exit_code == 0, checked.output
    for host in re.findall(r'url = "\w+://([\w-]+):', config.read_text()):
        assert host in services


def test_the_commands_of_compose_exist(services: dict[str, Any]) -> None:
    commands = [service["command"] for service in services.values() if service["command"][0] == "tollway"]
    assert commands
    for words in commands:
        parsed = CliRunner().invoke(tollway, [*words[1:], "--help"])
        assert parsed.exit_code == 0, parsed.output
        flags = [word for word in words if word.startswith("--")]
        assert all(flag in parsed.output for flag in flags)


@pytest.mark.parametrize("script", ["deploy/vllm/install.sh", "tests/elsewhere.sh", ".ci/run"])
def test_the_shell_scripts_parse_and_may_be_run(script: str) -> None:
    subprocess.run(["bash", "-n", ROOT / script], check=True)
    assert (ROOT / script).stat().st_mode & 0o111
