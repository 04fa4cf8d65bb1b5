"""A gateway as a person starts it: the command `tollway up`, its data in a folder of its own."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from click.testing import CliRunner

from proxy.billing.entry import Entry
from proxy.cli.main import tollway
from proxy.identity.development import mint
from proxy.redis.client import RedisClient
from proxy.redis.embedded.server import address
from proxy.settings import Settings, load
from proxy.store.ledger import NEVER_US, read
from proxy.store.membership.incarnation import tenants
from tests.exposition import total
from tests.processes import descendants

ANYWHERE = """
[listen]
port = 0

[admin]
port = 0

[[auth.issuers]]
issuer = "tollway-development"
algorithms = ["HS256"]
development = true
"""
"""Of a config: ports of the kernel's choice, and tokens of the development issuer."""

TOLLWAY = Path(sys.executable).with_name("tollway")
CONFIG = Path(__file__).with_name("tollway.toml")
READY_S_MAX = 60.0
STOP_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that answers."""

    process: subprocess.Popen[bytes]
    settings: Settings
    config: Path
    environment: Mapping[str, str]
    folder: Path
    banner: str

    @property
    def url(self) -> str:
        """Return the base URL, without `/v1`."""
        return self._printed(r"base URL +(\S+)/v1")

    @property
    def address(self) -> tuple[str, int]:
        """Return the host and port that clients connect to."""
        host, _, port = urlsplit(self.url).netloc.rpartition(":")
        return host, int(port)

    @property
    def admin_url(self) -> str:
        """Return where the admin listener is."""
        return self._printed(r"admin +(\S+)/metrics")

    def replica_url(self, name: str) -> str:
        """Return where a replica is."""
        return self._printed(rf"{name} +(\S+)")

    def token(self, tenant: str = "acme", user: str = "ada", plan: str | None = None, **more: Any) -> str:
        """Return a signed token."""
        return mint(self.settings, tenant=tenant, user=user, plan=plan, **more)

    def bearer(self, tenant: str = "acme", user: str = "ada", plan: str | None = None) -> dict[str, str]:
        """Return the header that carries a token."""
        return {"authorization": f"Bearer {self.token(tenant, user, plan)}"}

    def tollway(self, *args: str) -> str:
        """Run a command beside the gateway and return what it printed."""
        command = [str(TOLLWAY), *args, "--config", str(self.config)]
        return subprocess.run(
            command, env=dict(self.environment), cwd=self.folder, capture_output=True, text=True, check=True, timeout=30
        ).stdout

    def usage(self, *group_by: str) -> list[dict[str, Any]]:
        """Return the rows of the finance report, by the command in this process: it starts 30 times as fast."""
        args = ["usage", "--from", "2020-01-01", "--group-by", ",".join(group_by), "--format", "json"]
        with ThreadPoolExecutor(1) as aside:  # where no event loop runs
            command = partial(CliRunner().invoke, tollway, [*args, "--config", str(self.config)])
            done = aside.submit(command, env=dict(self.environment)).result()
        assert done.exit_code == 0, done.output
        rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
        return rows

    def admin(self, path: str) -> str:
        """Return what the admin listener answers."""
        with closing(HTTPConnection(urlsplit(self.admin_url).netloc, timeout=10)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def metrics(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's series that carry these labels."""
        return total(self.admin("/metrics"), name, **labels)

    def client(self, headers: Mapping[str, str] | None = None, **options: Any) -> httpx.AsyncClient:
        """Return a patient client. It reads no certificates, which it would for 20 ms and not need."""
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60, verify=False, **options)

    async def eventually(self, name: str, value: float, *, within_s: float) -> None:
        """Wait until a metric has a value."""
        deadline = time.monotonic() + within_s
        while (seen := self.metrics(name)) != value:
            assert time.monotonic() < deadline, f"{name} is {seen}, not {value}, after {within_s} s"
            await asyncio.sleep(0.05)

    async def until_refused(self) -> None:
        """Wait until the gateway takes no new connection."""
        async with asyncio.timeout(10):
            while True:
                try:
                    socket.create_connection(self.address).close()
                except ConnectionRefusedError:
                    return
                await asyncio.sleep(0.02)

    @property
    def redis_pid(self) -> int:
        """Return the process id of the gateway's own Redis."""
        names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in descendants(self.process.pid)}
        [pid] = [pid for pid, name in names.items() if name in {"redis-server", "valkey-server"}]
        return pid

    async def ledger(self) -> list[Entry]:
        """Return every row of the ledger."""
        redis = self.settings.redis
        async with RedisClient(redis.url or address(redis.data_dir), deadline_s=20) as connection:
            return [entry async for entry in read(connection, await tenants(connection), 0, NEVER_US)]

    def _printed(self, pattern: str) -> str:
        found = re.search(pattern, self.banner)
        assert found is not None, self.banner
        return found[1]


def gateway(folder: Path, **environment: str) -> AbstractContextManager[Running]:
    """Run a gateway of simulated replicas, with its data in `folder`; Ctrl-C ends it."""
    return gateway_of(CONFIG, folder, environment=environment)


@contextmanager
def gateway_of(
    config: Path,
    folder: Path,
    *,
    ready_s_max: float = READY_S_MAX,
    environment: Mapping[str, str] | None = None,
    workers: int = 1,
) -> Iterator[Running]:
    """Run a gateway of any config, with its data in `folder`; Ctrl-C ends it."""
    own = {"TOLLWAY__REDIS__DATA_DIR": str(folder / "data"), "PYTHONDONTWRITEBYTECODE": ""}
    env = {**os.environ, **own, **(environment or {})}
    with (folder / "printed").open("w") as printed, (folder / "log").open("a") as log:
        process = subprocess.Popen(
            [TOLLWAY, "up", "--config", str(config), "--workers", str(workers)],
            env=env,
            cwd=folder,
            stdout=printed,
            stderr=log,
        )
    try:
        banner = _banner(process, folder, ready_s_max)
        yield Running(process, load(config, env), config, env, folder, banner)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S_MAX)
        finally:
            process.kill()


def _banner(process: subprocess.Popen[bytes], folder: Path, ready_s_max: float) -> str:
    deadline = time.monotonic() + ready_s_max
    while "Ctrl-C" not in (printed := (folder / "printed").read_text()):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, f"not ready in {ready_s_max} s: {printed}"
        time.sleep(0.02)
    return printed
