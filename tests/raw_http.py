"""A client that writes bytes as they are, and reads answers as HTTP has them."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

WAIT_S_MAX = 20.0


@dataclass
class RawAnswer:
    """One answer, whole."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def code(self) -> str:
        """The envelope's `code`; fails where there is no envelope."""
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return str(error["code"])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class RawClient:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answers: list[RawAnswer] = field(default_factory=list)

    async def send(self, data: bytes) -> None:
        """Write these bytes, and no others."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> RawAnswer:
        """Read one answer; raise `EOFError` where the connection ends without one."""
        async with asyncio.timeout(WAIT_S_MAX):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            answer = RawAnswer(int(first.split(" ")[1]), headers)
            if answer.status == 100:
                return answer
            if method == "HEAD":
                return answer
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    answer.body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readexactly(2)
            else:
                answer.body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            return answer

    async def ask(self, data: bytes) -> RawAnswer:
        """Write these bytes and read the answer."""
        await self.send(data)
        return await self.answer()

    async def closed(self) -> bytes:
        """Wait until the other side ends the connection; return what it still said."""
        async with asyncio.timeout(WAIT_S_MAX):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def connected(host: str, port: int) -> AsyncIterator[RawClient]:
    """Connect for the block."""
    reader, writer = await asyncio.open_connection(host, port)
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
