"""
A config that changes under load: nobody fails, each is billed by one config, and whoever was taken back is out.

The configs are numbered. Each has another price, another plan, another tenant, another issuer and another replica than
the one before, and the number stands in all of them: what an answer and its bill tell of it has to be one number.
"""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from proxy.billing.record import ExchangeRecord
from tests.asks import CHAT, chat
from tests.e2e.gateway import TOLLWAY, Running, gateway_of
from tests.exposition import samples
from tests.processes import alive, command_line, descendants, wait_until_gone
from tests.sim_process import SimProcess, running_sim

LAUNCHED = Path(__file__).with_name("workers.toml")
RELOADS = 50
AGREED_S_MAX = 2.0
"""What the contract promises, of workers that agree and of tokens that end."""
LONG, SHORT = 800, 10
"""Tokens of streams; one takes 4 ms."""
TRIES = 4
"""Of connections, each of which the kernel gives to a worker of its choice."""
AMOUNT = 10**9
PRICE = 1_000_000

CONFIG = """
[listen]
port = 0

[admin]
port = 0

[[auth.issuers]]
issuer = "tollway-development"
algorithms = ["HS256"]
development = true

[[auth.issuers]]
issuer = "issuer-NUMBER"
algorithms = ["HS256"]
key_file = "key-NUMBER"

[[models]]
name = "demo"
context_tokens = 8192

[[models.replicas]]
name = "stays"
url = "http://STAYS"
sequences = SEQUENCES

[[models.replicas]]
name = "replica-NUMBER"
url = "http://CHANGES"
sequences = 64

[plans.open]
limits = [{ scope = "user", unit = "tokens", amount = AMOUNT, per = "day" }]

[tenants.acme]
plans = ["open"]

[tenants.tenant-NUMBER]
plans = ["open"]

[[prices]]
model = "demo"
version = "NUMBER"
prompt = 1_000_000
cached = 1_000_000
completion = COMPLETION
"""


@pytest.fixture(scope="module")
def sims() -> Iterator[Sequence[SimProcess]]:
    """Run a replica that stays and two that take turns."""
    options = ("--model", "demo", "--decode-ms-per-token", "4", "--max-num-seqs", "256")
    with running_sim(*options) as stays, running_sim(*options) as one, running_sim(*options) as other:
        yield stays, one, other


@dataclass
class Numbered:
    """The config of a gateway, which is written anew under its feet."""

    folder: Path
    sims: Sequence[SimProcess]
    asked: int = 0
    """The last that a reload was asked for."""
    held: int = 0
    """The last that every worker is known to hold."""

    @property
    def path(self) -> Path:
        return self.folder / "tollway.toml"

    def write(self, number: int) -> None:
        """Write one of the configs."""
        values = {
            "SEQUENCES": 100 + number,
            "AMOUNT": AMOUNT + number,
            "COMPLETION": PRICE * (1 + number),
            "STAYS": self.sims[0].address,
            "CHANGES": self.sims[1 + number % 2].address,
            "NUMBER": number,
        }
        text = CONFIG
        for name, value in values.items():
            text = text.replace(name, str(value))
        (self.folder / f"key-{number}").write_bytes(key(number))
        self.path.write_text(text)


def key(number: int) -> bytes:
    return f"{number:032d}".encode()


def token(number: int) -> str:
    """Return a token of a config's own issuer, for its own tenant."""
    said = {"iss": f"issuer-{number}", "aud": "tollway", "exp": 2**33, "tenant": f"tenant-{number}", "sub": "ada"}
    return jwt.encode(said, key(number), "HS256")


@dataclass(frozen=True)
class Told:
    """What one request was told, and which configs may have held at its beginning."""

    request_id: str
    limit: int
    earliest: int
    latest: int
    at_end: int
    usage: dict[str, int]


@dataclass
class Load:
    """Clients that ask again and again until they are told to stop, each time on a connection of its own."""

    running: Running
    config: Numbered
    client: httpx.AsyncClient
    told: list[Told] = field(default_factory=list)
    stopped: bool = False

    async def repeat(self, body: dict[str, Any]) -> None:
        while not self.stopped:
            await self.ask(body)

    async def ask(self, body: dict[str, Any]) -> None:
        earliest = self.config.held
        headers = self.running.bearer()
        async with self.client.stream("POST", f"{self.running.url}{CHAT}", json=body, headers=headers) as answer:
            latest = self.config.asked
            text = (await answer.aread()).decode()
        assert answer.status_code == 200, text
        last = text
        if body.get("stream"):
            *_, last, done, _ = text.split("\n\n")
            assert done == "data: [DONE]", text
        usage = json.loads(last.removeprefix("data: "))["usage"]
        limit = int(answer.headers["x-ratelimit-limit-tokens"])
        told = Told(answer.headers["x-request-id"], limit - AMOUNT, earliest, latest, self.config.held, usage)
        self.told.append(told)

    async def reload(self, number: int) -> dict[str, Any]:
        """Put a config in force; return what is told of it."""
        self.config.write(number)
        self.config.asked = number
        headers = {"content-type": "application/json"}
        answer = await self.client.post(f"{self.running.admin_url}/admin/reload", headers=headers)
        assert answer.status_code == 200, answer.text
        self.config.held = number
        told: dict[str, Any] = answer.json()
        return told

    async def statuses(self, token: str, times: int = TRIES) -> set[int]:
        """Ask with a token; return how it was answered."""
        headers = {"authorization": f"Bearer {token}"}
        asked = (self.client.get(f"{self.running.url}/v1/quota", headers=headers) for _ in range(times))
        return {answer.status_code for answer in await asyncio.gather(*asked)}


@asynccontextmanager
async def loaded(running: Running, config: Numbered) -> AsyncIterator[Load]:
    """Have clients ask for the block, in streams that outlast several reloads, in short ones, and whole."""
    once = httpx.Limits(max_keepalive_connections=0)
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    bodies = [chat(LONG, **usage), chat(LONG, **usage), chat(SHORT, **usage), chat(SHORT)]
    async with httpx.AsyncClient(limits=once, timeout=60, verify=False) as client:
        load = Load(running, config, client)
        asking = [asyncio.create_task(load.repeat(body)) for body in bodies]
        try:
            yield load
        finally:
            load.stopped = True
            await asyncio.gather(*asking)


@pytest.mark.parametrize("workers", [1, 2])
async def test_fifty_reloads_under_load(tmp_path: Path, sims: Sequence[SimProcess], workers: int) -> None:
    config = Numbered(tmp_path, sims)
    config.write(0)
    with gateway_of(config.path, tmp_path, workers=workers) as running:
        async with loaded(running, config) as load:
            for number in range(1, RELOADS + 1):
                assert await load.statuses(token(number - 1)) == {200}, "it is known, and remembered"
                began = time.monotonic()
                told = await load.reload(number)
                assert time.monotonic() - began < AGREED_S_MAX
                assert await load.statuses(token(number)) == {200}
                assert await load.statuses(token(number - 1)) == {401}
                assert sections(told) == {"auth", "models", "plans", "prices", "tenants"}
        await running.eventually("tollway_reservations_open", 0, within_s=5)
        assert running.metrics("tollway_config_reloads_total", result="ok") == RELOADS
        assert running.metrics("tollway_config_reloads_total", result="failed") == 0
        await only(running, {"stays", f"replica-{RELOADS}"})
        records = {entry.record.request_id: entry.record for entry in await running.ledger()}
    assert len(load.told) > RELOADS
    assert set(records) == {told.request_id for told in load.told}, "each is billed, and nothing else"
    for each in load.told:
        assert each.earliest <= each.limit <= each.latest
        assert_billed_by(records[each.request_id], each)
    assert sum(each.at_end > each.limit for each in load.told) >= 10, "many outlasted a reload"


def assert_billed_by(record: ExchangeRecord, told: Told) -> None:
    """Assert that a bill is by the config whose limits its request was told."""
    usage = told.usage
    assert (record.outcome, record.price_version) == ("ok", str(told.limit))
    assert (record.prompt_tokens, record.completion_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert record.charge_picos == (record.prompt_tokens + record.completion_tokens * (1 + told.limit)) * 1_000_000


def sections(told: dict[str, Any]) -> set[str]:
    """Return in which sections something is told to be different."""
    assert told["needs_restart"] == []
    return {change["path"].partition(".")[0] for change in told["changed"]}


async def only(running: Running, names: set[str]) -> None:
    """Wait until all other replicas have left, and nothing tells of them any more."""
    async with asyncio.timeout(20), httpx.AsyncClient() as client:
        while True:
            shown = (await client.get(f"{running.admin_url}/admin/replicas")).json()["data"]
            text = (await client.get(f"{running.admin_url}/metrics")).text
            seen = {labels["replica"] for _, labels, _ in samples(text) if "replica" in labels}
            if {replica["name"] for replica in shown} == seen == names:
                return
            await asyncio.sleep(0.1)


@dataclass
class Edited:
    """A gateway of launched replicas, whose config a test edits."""

    running: Running
    folder: Path

    def edit(self, old: str, new: str) -> None:
        """Change the config's text."""
        path = self.folder / "tollway.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def hang_up(self, event: str) -> dict[str, Any]:
        """Send SIGHUP; return the line of the log that tells what came of it."""
        known, deadline = len(self.lines(event)), time.monotonic() + 20
        self.running.process.send_signal(signal.SIGHUP)
        while len(self.lines(event)) == known:
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)
        return self.lines(event)[-1]

    def post(self) -> httpx.Response:
        """Ask for a reload over HTTP."""
        return post(self.running)

    def lines(self, event: str) -> list[dict[str, Any]]:
        lines = (json.loads(line) for line in (self.folder / "log").read_text().splitlines())
        return [line for line in lines if line["event"] == event]

    def limit(self) -> int:
        """Return how many requests the plan allows now."""
        headers = self.running.bearer(plan="counted")
        limits = httpx.get(f"{self.running.url}/v1/quota", headers=headers, timeout=30).json()["limits"]
        return int(limits[0]["limit"])


@pytest.fixture(params=[1, 2], scope="module")
def edited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edited]:
    folder = tmp_path_factory.mktemp("edited")
    (folder / "tollway.toml").write_text(LAUNCHED.read_text())
    with gateway_of(folder / "tollway.toml", folder, workers=request.param) as running:
        yield Edited(running, folder)


def test_sighup_reads_the_config_again(edited: Edited) -> None:
    edited.edit("amount = 20", "amount = 30")
    line = edited.hang_up("config_reloaded")
    assert (line["changed"], line["needs_restart"]) == (["plans.counted.limits changed"], [])
    assert edited.limit() == 30
    edited.edit("amount = 30", "amount = 20")
    edited.hang_up("config_reloaded")
    assert edited.limit() == 20


def test_a_config_with_faults_changes_nothing_and_all_of_them_are_told(edited: Edited) -> None:
    text = (edited.folder / "tollway.toml").read_text()
    edited.edit("amount = 20", "amount = -1")
    edited.edit('plans = ["open", "counted"]', 'plans = ["open", "counted", "gone"]')
    faults = [
        "plans.counted.limits[0].amount: must be greater than or equal to 1",
        "tenants.acme.plans[2]: no plan is named 'gone'",
    ]
    assert edited.hang_up("config_not_reloaded")["faults"] == faults
    answer = edited.post()
    assert answer.status_code == 422
    assert [f"{fault['path']}: {fault['message']}" for fault in answer.json()["faults"]] == faults
    (edited.folder / "tollway.toml").write_text("[")
    assert "is not TOML" in edited.post().json()["faults"][0]["message"]
    (edited.folder / "tollway.toml").write_text(text)
    assert edited.limit() == 20
    assert edited.running.metrics("tollway_config_reloads_total", result="failed") == 3


def test_a_key_that_cannot_be_read_is_a_fault_that_every_worker_finds(edited: Edited) -> None:
    issuer = '\n[[auth.issuers]]\nissuer = "other"\nalgorithms = ["HS256"]\nkey_file = "nowhere"\n'
    edited.edit("\n[[models]]", f"{issuer}\n[[models]]")
    [fault] = edited.hang_up("config_not_reloaded")["faults"]
    assert fault.startswith("auth.issuers[1].key_file: ")
    edited.edit(issuer, "")


def test_what_needs_a_restart_is_named_and_left(edited: Edited) -> None:
    edited.edit("[admin]\nport = 0", '[admin]\nport = 0\nnames = ["ops.internal"]')
    edited.edit("--decode-ms-per-token", "--prefill-ms-per-token")
    edited.edit("amount = 20", "amount = 40")
    line = edited.hang_up("config_reloaded")
    assert line["changed"] == ["plans.counted.limits changed"]
    assert line["needs_restart"] == ["admin.names changed", "models.demo.launch.args changed"]
    edited.edit('\nnames = ["ops.internal"]', "")
    edited.edit("--prefill-ms-per-token", "--decode-ms-per-token")
    edited.edit("amount = 40", "amount = 20")
    assert edited.hang_up("config_reloaded")["needs_restart"] == []


async def test_a_launched_replica_is_ended_when_its_last_stream_has_and_another_is_launched(edited: Edited) -> None:
    running = edited.running
    process = replica_pid(running, "demo-1")
    async with httpx.AsyncClient(timeout=60, verify=False) as client:
        asking = [
            asyncio.create_task(client.post(f"{running.url}{CHAT}", json=chat(150), headers=running.bearer()))
            for _ in range(8)
        ]
        await running.eventually("tollway_inflight_requests", 8, within_s=10)
        assert running.metrics("tollway_inflight_requests", replica="demo-1") > 0
        edited.edit('name = "demo-1"', 'name = "demo-2"')
        edited.hang_up("config_reloaded")
        shown = (await client.get(f"{running.admin_url}/admin/replicas")).json()["data"]
        assert {each["name"]: each["leaving"] for each in shown} == {"demo-0": False, "demo-1": True, "demo-2": False}
        assert alive(process)
        answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    await only(running, {"demo-0", "demo-2"})
    wait_until_gone({process})
    await running.eventually("tollway_replica_up", 2, within_s=20)
    edited.edit('name = "demo-2"', 'name = "demo-1"')
    edited.hang_up("config_reloaded")
    await only(running, {"demo-0", "demo-1"})


def replica_pid(running: Running, name: str) -> int:
    """Return the process of a launched replica."""
    port = running.replica_url(name).rpartition(":")[2]
    [pid] = [pid for pid in descendants(running.process.pid) if port in command_line(pid).split()]
    return pid


def post(running: Running) -> httpx.Response:
    headers = {"content-type": "application/json"}
    return httpx.post(f"{running.admin_url}/admin/reload", headers=headers, timeout=30)


def test_a_key_that_stands_in_its_file_no_longer_ends_its_tokens(tmp_path: Path, sims: Sequence[SimProcess]) -> None:
    config = Numbered(tmp_path, sims)
    config.write(0)
    with gateway_of(config.path, tmp_path) as running:

        def status(token: str) -> int:
            return httpx.get(f"{running.url}/v1/models", headers={"authorization": f"Bearer {token}"}).status_code

        assert (status(token(0)), status(token(0))) == (200, 200)
        (tmp_path / "key-0").write_bytes(key(1))
        assert post(running).json()["changed"] == [{"kind": "changed", "path": "auth.issuers.issuer-0.key_file"}]
        assert status(token(0)) == 401


def test_sighup_before_it_serves_is_no_reason_to_die(tmp_path: Path) -> None:
    (tmp_path / "tollway.toml").write_text(LAUNCHED.read_text())
    environment = {**os.environ, "TOLLWAY__REDIS__DATA_DIR": str(tmp_path / "data")}
    command = [str(TOLLWAY), "up", "--config", str(tmp_path / "tollway.toml")]
    with (tmp_path / "log").open("w") as log, (tmp_path / "printed").open("w") as printed:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=printed, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not descendants(process.pid):
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGHUP)
        while '"config_reloaded"' not in (tmp_path / "log").read_text():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
