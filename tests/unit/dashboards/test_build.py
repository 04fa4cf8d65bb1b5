"""The dashboard's file is fresh, complete and valid PromQL."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import yaml

from dashboards import build
from proxy.billing.record import CLIENT_CLOSED, GATEWAY_LOST, OK, SHUTDOWN
from proxy.errors import Code

RULES = build.TARGET.parent / "rules"
CLIENTS_OWN = {
    Code.INVALID_API_KEY,
    Code.PERMISSION_DENIED,
    Code.MODEL_NOT_FOUND,
    Code.NOT_FOUND,
    Code.METHOD_NOT_ALLOWED,
    Code.INVALID_REQUEST,
    Code.REQUEST_TOO_LARGE,
    Code.HEADERS_TOO_LARGE,
    Code.TARGET_TOO_LONG,
    Code.REQUEST_TIMEOUT,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.CONTEXT_LENGTH_EXCEEDED,
    # Not the fleet's fault either: anybody may send a token that cannot be judged, and has an alert of its own.
    Code.IDENTITY_UNAVAILABLE,
    Code.IDEMPOTENCY_KEY_REUSED,
}


def test_the_file_is_what_the_definitions_give() -> None:
    assert build.TARGET.read_bytes() == build.built(), "run: python -m dashboards.build"


@pytest.mark.parametrize(("content", "status"), [("fresh", 0), ("stale", 1)])
def test_check_tells_a_stale_file_and_leaves_it(
    content: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "tollway.json"
    target.write_bytes(build.built() if content == "fresh" else b"{}")
    monkeypatch.setattr(build, "TARGET", target)
    monkeypatch.setattr(sys, "argv", ["build", "--check"])
    before = target.read_bytes()
    assert build.main() == status
    assert target.read_bytes() == before


def test_every_outcome_is_an_answer_a_fault_a_refusal_or_the_clients_own() -> None:
    classes: list[set[str]] = [
        *(set(told.split("|")) for told in (build.ANSWERED, build.FAULTS, build.REFUSALS)),
        {*CLIENTS_OWN},
    ]
    outcomes = {*Code, OK, CLIENT_CLOSED, SHUTDOWN, GATEWAY_LOST}
    assert set().union(*classes) == outcomes
    assert sum(map(len, classes)) == len(outcomes)


def test_rules_and_dashboard_agree_on_what_a_fault_is() -> None:
    outcomes = set(re.findall(r'outcome=~"([^"]+)"', (RULES / "recording.yml").read_text()))
    assert outcomes == {build.FAULTS, f"{build.ANSWERED}|{build.FAULTS}", build.NO_ROOM}
    assert set(build.NO_ROOM.split("|")) < set(build.FAULTS.split("|"))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_every_expression_is_valid_promql(tmp_path: Path) -> None:
    expressions = [
        target["expr"].replace("$__rate_interval", "5m").replace("$__range", "3h")
        for panel in orjson.loads(build.built())["panels"]
        for target in panel.get("targets", ())
    ]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(expressions)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    check = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr
    assert f"{len(expressions)} rules found" in check.stdout
