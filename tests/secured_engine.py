"""What stands before an engine in clear text: TLS, a client's certificate, a key; and what came through."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.certificates import Authority, Pair

_REFUSAL = b'{"error":"Unauthorized"}'
UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: %d\r\n\r\n%b" % (len(_REFUSAL), _REFUSAL)
"""What vLLM says to who shows another key than its `--api-key`; only `/v1` is kept by it."""


@dataclass
class Front:
    """Takes connections for an engine at `behind`, which asks each request of `/v1` for `key`, if there is one."""

    behind: str
    key: str = ""
    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    """Of every request, as it came."""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one connection, as long as it shows the key."""
        host, _, port = self.behind.rpartition(":")
        try:
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
            back = asyncio.create_task(_pump(up_reader, writer))
            try:
                while await self._passed(reader, up_writer):
                    pass
                writer.write(UNAUTHORIZED)
                await writer.drain()
            finally:
                back.cancel()
                up_writer.close()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        lines = head.split(b"\r\n")
        lengths = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")]
        body = await reader.readexactly(sum(lengths))
        if self.key and b" /v1/" in lines[0] and f"authorization: Bearer {self.key}".encode() not in lines:
            return False
        writer.write(head + body)
        await writer.drain()
        return True


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def secured(behind: str, authority: Authority, pair: Pair, *, key: str = "", port: int = 0) -> Iterator[Front]:
    """Serve an engine with TLS to who shows a certificate of `authority`, in a thread, for the block."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca_file)
    context.load_cert_chain(pair.certificate, pair.key)
    context.verify_mode = ssl.CERT_REQUIRED
    front, ready, over = Front(behind, key), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = await asyncio.start_server(front.talk, "127.0.0.1", port, ssl=context)
        front.port = server.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield front
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
