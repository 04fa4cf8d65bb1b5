"""Starting, stopping and being killed: nothing is left behind, and nothing is lost."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.gateway import CONFIG, READY_S_MAX, TOLLWAY, Running, gateway
from tests.processes import GONE_S_MAX, command_line, descendants, wait_until_gone

BODY = {"model": "demo", "messages": [{"role": "user", "content": "Tell me about toll roads."}], "max_tokens": 5}


def ask(running: Running, user: str) -> int:
    """Make one request; return its status."""
    headers = running.bearer("acme", user)
    answer = httpx.post(f"{running.url}/v1/chat/completions", json=BODY, headers=headers, verify=False)
    return answer.status_code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_it_started(folder: Path, number: signal.Signals) -> None:
    with gateway(folder) as running:
        assert ask(running, "stopped") == 200
        started = descendants(running.process.pid)
        assert len(started) >= 6, "a Redis and five replicas"
        running.process.send_signal(number)
        assert running.process.wait(GONE_S_MAX) == 0
        wait_until_gone(started)


def test_a_signal_gives_up_a_start_that_takes_long(folder: Path) -> None:
    environment = {**os.environ, "TOLLWAY__REDIS__DATA_DIR": str(folder / "data")}
    command = [str(TOLLWAY), "up", "--config", str(CONFIG)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        deadline = time.monotonic() + READY_S_MAX
        while not (replicas := {pid for pid in descendants(process.pid) if " sim " in command_line(pid)}):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        started = descendants(process.pid)
        slow = replicas.pop()
        os.kill(slow, signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        wait_until_gone(replicas)
        os.kill(slow, signal.SIGCONT)
        printed, _ = process.communicate(timeout=GONE_S_MAX)
        assert process.returncode == 0
        assert "Ctrl-C" not in printed
        wait_until_gone(started)
        assert "exception" not in (folder / "log").read_text()
    finally:
        process.kill()


def test_a_second_gateway_on_the_same_data_is_refused_by_name(folder: Path) -> None:
    with gateway(folder) as running:
        with pytest.raises(subprocess.CalledProcessError) as refused:
            running.tollway("up")
        assert f"process {running.process.pid}" in refused.value.stderr
        assert "Traceback" not in refused.value.stderr


@pytest.mark.parametrize("everything", [True, False], ids=["everything", "the gateway alone"])
def test_after_kill_9_the_next_start_works_and_the_ledger_is_whole(folder: Path, *, everything: bool) -> None:
    with gateway(folder) as running:
        assert [ask(running, "killed") for _ in range(3)] == [200] * 3
        time.sleep(1.2)  # Redis' append-only file is synced each second
        started = descendants(running.process.pid)
        for pid in [running.process.pid, *(started if everything else ())]:
            os.kill(pid, signal.SIGKILL)
        running.process.wait(GONE_S_MAX)
        wait_until_gone(started)
    with gateway(folder) as again:
        assert ask(again, "killed") == 200
        [row] = again.usage("user")
        assert row["requests"] == 4


def test_what_was_in_flight_at_kill_9_is_settled_by_the_next_start(folder: Path) -> None:
    with gateway(folder) as running:
        body = {**BODY, "max_tokens": 4_000, "ignore_eos": True, "stream": True}
        headers = running.bearer("acme", "in-flight")
        with httpx.stream("POST", f"{running.url}/v1/chat/completions", json=body, headers=headers) as answer:
            lines = answer.iter_lines()
            received = 0
            deadline = time.monotonic() + 2.5
            while time.monotonic() < deadline:
                received += next(lines).startswith("data: ")
            running.process.kill()
            running.process.wait(GONE_S_MAX)
    with gateway(folder) as again:
        deadline = time.monotonic() + 25
        while not (rows := again.usage("user")):
            assert time.monotonic() < deadline, "the sweep never came"
            time.sleep(0.5)
        [row] = rows
        assert row["requests"] == 1
        assert 0 < row["completion_tokens"] <= received, "never over"
        logged = [json.loads(line) for line in (folder / "log").read_text().splitlines() if '"gateway_lost"' in line]
        assert [line["completion_tokens"] for line in logged] == [row["completion_tokens"]], "a bill has its line"
        assert [line["replica"] for line in logged] in (["demo-0"], ["demo-1"])
        quota = httpx.get(f"{again.url}/v1/quota", headers=again.bearer("acme", "in-flight")).json()
        assert [limit["used"] for limit in quota["limits"]] == [0]
