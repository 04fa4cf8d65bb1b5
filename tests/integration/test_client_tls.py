"""`engine.wire.credentials` over real TLS: who is spoken to, what is shown, and what is told where that fails."""

import asyncio
import socket
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from engine.faults import ConnectFailed, TlsFailed, UpstreamFault
from engine.fleet import trouble
from engine.wire.client import DirectUpstream
from engine.wire.credentials import NONE, CredentialFiles, Credentials
from engine.wire.transport import Transport
from tests.certificates import Authority, Pair
from tests.integration.test_client import Peer

DEADLINE_S = 10.0
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tw-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def named(authority: Authority) -> Pair:
    """Return a certificate that holds for `localhost` and for no address."""
    return authority.issue("engine", "localhost")


@asynccontextmanager
async def engine(
    pair: Pair | None,
    *,
    converse: Callable[[Peer], Awaitable[None]] | None = None,
) -> AsyncIterator[tuple[int, list[Peer]]]:
    """Serve with TLS, or in clear text without a `pair`; yield the port and who came."""
    context = None
    if pair is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair.certificate, pair.key)
    peers: list[Peer] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        peers.append(peer)
        try:
            await (converse or _answering)(peer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield server.sockets[0].getsockname()[1], peers
    finally:
        server.close()


async def _answering(peer: Peer) -> None:
    while True:
        await peer.read_request()
        await peer.write(ANSWER)


async def ask(upstream: DirectUpstream, url: str, credentials: Credentials = NONE) -> bytes:
    async with upstream.request("POST", f"{url}/v1/x", credentials=credentials, body=b"{}") as response:
        return await response.read(50_000_000)


async def fault(url: str, credentials: Credentials = NONE) -> UpstreamFault:
    async with DirectUpstream(2.0) as upstream:
        with pytest.raises(UpstreamFault) as caught:
            await ask(upstream, url, credentials)
    return caught.value


async def test_a_replica_behind_tls_is_asked_over_tls_and_its_connection_kept(
    authority: Authority, named: Pair
) -> None:
    credentials = CredentialFiles(ca_file=authority.ca_file).read()
    async with engine(named) as (port, peers), DirectUpstream(2.0) as upstream:
        answers = [await ask(upstream, f"https://localhost:{port}", credentials) for _ in range(3)]
        spoken = peers[0].writer.get_extra_info("ssl_object")
    assert answers == [b"ok"] * 3
    assert len(peers) == 1
    assert spoken.version() in ("TLSv1.2", "TLSv1.3")


async def test_a_large_answer_comes_whole_and_waits_for_who_reads_it(authority: Authority, named: Pair) -> None:
    content = bytes(range(256)) * 40_000

    async def converse(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content))

    credentials = CredentialFiles(ca_file=authority.ca_file).read()
    async with engine(named, converse=converse) as (port, _), DirectUpstream(2.0) as upstream:
        assert await ask(upstream, f"https://localhost:{port}", credentials) == content


async def test_leaving_an_answer_ends_the_connection(authority: Authority, named: Pair) -> None:
    left = asyncio.Event()

    async def converse(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nok")
        with suppress(OSError):
            await peer.reader.read()
        left.set()

    credentials = CredentialFiles(ca_file=authority.ca_file).read()
    async with engine(named, converse=converse) as (port, _), DirectUpstream(2.0) as upstream:
        async with upstream.request("GET", f"https://localhost:{port}", credentials=credentials) as response:
            assert response.status == 200
        await left.wait()


async def test_a_certificate_must_hold_for_the_host(authority: Authority, named: Pair) -> None:
    credentials = CredentialFiles(ca_file=authority.ca_file).read()
    async with engine(named) as (port, peers):
        told = await fault(f"https://127.0.0.1:{port}", credentials)
    assert isinstance(told, TlsFailed)
    assert (told.reason, "127.0.0.1" in str(told), "not trusted" in str(told)) == ("tls", True, True)
    assert peers == []


async def test_who_is_vouched_for_by_nobody_that_we_trust_is_left_unasked(named: Pair) -> None:
    async with engine(named) as (port, peers):
        told = await fault(f"https://localhost:{port}")
    assert isinstance(told, TlsFailed)
    assert "issuer certificate" in str(told)
    assert peers == []


async def test_a_replica_that_speaks_no_tls_gets_no_byte_in_clear_text(authority: Authority) -> None:
    came: list[bytes] = []

    async def converse(peer: Peer) -> None:
        came.append(await peer.reader.read(100_000))
        await peer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with engine(None, converse=converse) as (port, _):
        told = await fault(f"https://127.0.0.1:{port}", CredentialFiles(ca_file=authority.ca_file).read())
    assert isinstance(told, TlsFailed)
    assert b"v1" not in b"".join(came)


@contextmanager
def strict_engine(authority: Authority, pair: Pair, version: ssl.TLSVersion) -> Iterator[int]:
    """Serve one client after the other who has a certificate, in a thread; yield the port. asyncio's keeps alerts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca_file)
    context.load_cert_chain(pair.certificate, pair.key)
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, version

    def serve() -> None:
        with suppress(OSError):
            while True:
                _talk(context, listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE_S)


def _talk(context: ssl.SSLContext, accepted: socket.socket) -> None:
    accepted.settimeout(DEADLINE_S)
    # What is left unread would make the end a reset, which takes the alert with it.
    with accepted.dup() as kept:
        try:
            with context.wrap_socket(accepted, server_side=True) as secured:
                secured.recv(65_536)
                secured.sendall(ANSWER)
        except ssl.SSLError:
            kept.shutdown(socket.SHUT_WR)
            while kept.recv(65_536):
                pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_replica_that_wants_a_certificate_is_shown_ours(
    authority: Authority, named: Pair, version: ssl.TLSVersion
) -> None:
    ours = authority.issue("gateway")
    unshown = CredentialFiles(ca_file=authority.ca_file).read()
    shown = CredentialFiles(ca_file=authority.ca_file, cert_file=ours.certificate, key_file=ours.key).read()
    with strict_engine(authority, named, version) as port:
        async with DirectUpstream(2.0) as upstream:
            assert await ask(upstream, f"https://localhost:{port}", shown) == b"ok"
        told = await fault(f"https://localhost:{port}", unshown)
    assert isinstance(told, TlsFailed), repr(told)
    assert (
        str(told)
        == {
            ssl.TLSVersion.TLSv1_2: "sslv3 alert handshake failure",
            ssl.TLSVersion.TLSv1_3: "tlsv13 alert certificate required",
        }[version]
    )


async def test_a_replica_that_leaves_without_a_word_may_want_a_certificate(authority: Authority, named: Pair) -> None:
    async def converse(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")

    async with engine(named, converse=converse) as (port, _):
        told = await fault(f"https://localhost:{port}", CredentialFiles(ca_file=authority.ca_file).read())
    assert trouble.of_fault(told).cause == (
        "the connection ended without an answer: with TLS, where the replica may want another certificate"
    )


async def test_the_key_is_in_every_head_and_in_no_word_of_ours(authority: Authority, named: Pair, folder: Path) -> None:
    (folder / "key").write_text("sk-engine-secret\n")
    credentials = CredentialFiles(api_key_file=folder / "key", ca_file=authority.ca_file).read()
    heads: list[bytes] = []

    async def converse(peer: Peer) -> None:
        for _ in range(2):
            heads.append(await peer.read_request())
            await peer.write(ANSWER)

    async with engine(named, converse=converse) as (port, _), DirectUpstream(2.0) as upstream:
        for _ in range(2):
            await ask(upstream, f"https://localhost:{port}", credentials)
        told = await fault(f"https://127.0.0.1:{port}", credentials)
    assert [head.count(b"\r\nauthorization: Bearer sk-engine-secret\r\n") for head in heads] == [1, 1]
    assert "secret" not in f"{credentials!r} {told!r} {told.__cause__!r}"


async def test_connections_of_other_credentials_are_not_used(authority: Authority, named: Pair) -> None:
    ours = authority.issue("other")
    one = CredentialFiles(ca_file=authority.ca_file).read()
    other = CredentialFiles(ca_file=authority.ca_file, cert_file=ours.certificate, key_file=ours.key).read()
    async with engine(named) as (port, peers), DirectUpstream(2.0) as upstream:
        for credentials in (one, other, one, other):
            await ask(upstream, f"https://localhost:{port}", credentials)
    assert len(peers) == 2


async def test_connections_of_credentials_that_were_replaced_do_not_stay(authority: Authority, named: Pair) -> None:
    before = CredentialFiles(ca_file=authority.ca_file).read()
    other = authority.issue("next")
    after = CredentialFiles(ca_file=authority.ca_file, cert_file=other.certificate, key_file=other.key).read()
    transport, left = Transport(keepalive_s=0.05, connections_max=10), asyncio.Event()

    async def converse(peer: Peer) -> None:
        await peer.read_request()
        await peer.write(ANSWER)
        with suppress(OSError, EOFError):
            await peer.read_request()
        left.set()

    async with engine(named, converse=converse) as (port, peers), DirectUpstream(2.0, transport) as upstream:
        await ask(upstream, f"https://localhost:{port}", before)
        await asyncio.sleep(0.06)
        await ask(upstream, f"https://localhost:{port}", after)
        await left.wait()
    assert len(peers) == 2


async def test_nobody_listening_is_told_by_the_system(unused_port: int) -> None:
    told = await fault(f"https://127.0.0.1:{unused_port}")
    assert isinstance(told, ConnectFailed)
    assert not isinstance(told, TlsFailed)
    assert (told.reason, str(told)) == ("connect", "Connection refused")


@pytest.fixture
async def unused_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    return port
