"""`proxy.redis.address.Access` with real servers: who is spoken to over TLS, and with which certificate."""

import asyncio
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.redis.address import Access
from proxy.redis.client import RedisClient
from proxy.redis.pipeline import Pipeline
from proxy.redis.socket import SocketLost
from tests.certificates import Authority
from tests.redis_fleets import Node, Tls, cluster, serving, until, watched
from tests.redis_server import SERVERS, speaks_tls

DEADLINE_S = 5.0
SERVER = next((server for server in SERVERS if speaks_tls(server)), None)

pytestmark = pytest.mark.skipif(SERVER is None, reason="no redis-server at hand was built with TLS")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tw-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def access(authority: Authority) -> Access:
    pair = authority.issue("gateway")
    return Access(ca_file=authority.ca_file, cert_file=pair.certificate, key_file=pair.key)


@pytest.fixture(scope="module")
def named(folder: Path, authority: Authority) -> Iterator[Node]:
    """Run a server whose certificate holds for `localhost` and for no address."""
    with serving(folder / "named", SERVER, Tls(authority.ca_file, authority.issue("named", "localhost"))) as node:
        yield node


@pytest.fixture(scope="module")
def tls(authority: Authority) -> Tls:
    """Give what servers show that name each other by their address."""
    return Tls(authority.ca_file, authority.issue("addressed", "127.0.0.1", "localhost"))


async def _fault(url: str, access: Access) -> Exception:
    async with Pipeline(url, access=access, deadline_s=DEADLINE_S) as pipeline:
        with pytest.raises(SocketLost) as caught:
            await pipeline.ask("PING")
    return caught.value


async def test_who_shows_a_certificate_to_the_right_server_is_answered(named: Node, access: Access) -> None:
    async with Pipeline(f"rediss://localhost:{named.port}", access=access, deadline_s=DEADLINE_S) as pipeline:
        assert await pipeline.ask("ECHO", "x" * 300_000) == "x" * 300_000


async def test_a_certificate_must_hold_for_the_name(named: Node, access: Access) -> None:
    fault = await _fault(f"rediss://127.0.0.1:{named.port}", access)
    assert isinstance(fault.__cause__, ssl.SSLCertVerificationError)
    assert "127.0.0.1" in str(fault)


async def test_a_server_that_nobody_vouches_for_is_left(named: Node, access: Access) -> None:
    fault = await _fault(f"rediss://localhost:{named.port}", replace(access, ca_file=None))
    assert isinstance(fault.__cause__, ssl.SSLCertVerificationError)


async def test_where_a_file_names_who_may_vouch_nobody_else_may(
    named: Node, access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(access.ca_file))
    url = f"rediss://localhost:{named.port}"
    async with Pipeline(url, access=replace(access, ca_file=None), deadline_s=DEADLINE_S) as pipeline:
        assert await pipeline.ask("PING") == "PONG"
    fault = await _fault(url, replace(access, ca_file=Authority(tmp_path).ca_file))
    assert isinstance(fault.__cause__, ssl.SSLCertVerificationError)


async def test_without_a_certificate_of_its_own_a_gateway_is_not_let_in(named: Node, access: Access) -> None:
    await _fault(f"rediss://localhost:{named.port}", Access(ca_file=access.ca_file))


async def test_plain_words_are_not_taken_by_a_server_that_wants_tls(named: Node) -> None:
    await _fault(f"redis://localhost:{named.port}", Access())


async def test_sentinels_and_a_failover_over_tls(folder: Path, tls: Tls, access: Access) -> None:
    with watched(folder / "watched", SERVER, tls) as servers:
        async with RedisClient(servers.url, access=access, deadline_s=DEADLINE_S) as connection:
            await connection.check()
            before = await connection.servers()
            servers.primary.kill()
            await asyncio.to_thread(until, servers.failed_over)
            assert not before & await connection.servers()


async def test_a_cluster_over_tls(folder: Path, tls: Tls, access: Access) -> None:
    with cluster(folder / "cluster", SERVER, tls) as nodes:
        async with Pipeline(nodes.url, access=access, deadline_s=DEADLINE_S) as pipeline:
            names = [nodes.tenant_on(index) for index in range(3)]
            assert await asyncio.gather(*(pipeline.ask("SET", name, name) for name in names)) == ["OK"] * 3
            assert len(await pipeline.ask_each("PING")) == 3
            assert [node.ask("GET", name) for node, name in zip(nodes.primaries, names, strict=True)] == names
