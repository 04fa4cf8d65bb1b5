"""A client of the end-to-end tests on a bare socket: it hangs up, stalls and reads when it is told to."""

import asyncio
import json
import socket
import time
from dataclasses import dataclass
from typing import Any

from tests.asks import CHAT, chat
from tests.e2e.gateway import Running

TOKEN = b'"delta":{"content"'


@dataclass
class Client:
    """One connection with one request on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answer: bytes = b""

    async def until(self, text: bytes, times: int = 1) -> None:
        """Read until the answer has `text` so many times."""
        async with asyncio.timeout(20):
            while self.answer.count(text) < times:
                data = await self.reader.read(65_536)
                assert data, f"ended after {self.answer[-300:]!r}"
                self.answer += data

    async def rest(self) -> bytes:
        """Return the whole answer."""
        async with asyncio.timeout(20):
            self.answer += await self.reader.read()
        self.writer.close()
        return self.answer

    def leave(self) -> int:
        """Hang up; return when, in microseconds since the epoch."""
        self.writer.close()
        return time.time_ns() // 1_000

    def shown(self) -> int:
        """Return how many tokens the client was shown."""
        return self.answer.count(TOKEN) - self.answer.count(b'"delta":{"content":""}')


async def ask(
    running: Running,
    user: str,
    *,
    model: str = "silent",
    stream: bool = True,
    max_tokens: int = 5_000,
    receive_bytes: int | None = None,
    **fields: Any,
) -> Client:
    """Send a request."""
    body = chat(max_tokens, model=model, stream=stream, **fields)
    encoded = json.dumps(body).encode()
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, running.address)
    # Without a small limit the client's own library would read what the client does not.
    reader, writer = await asyncio.open_connection(sock=sock, limit=1_024)
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(encoded)}\r\n"
    writer.write(f"{head}authorization: {running.bearer('acme', user)['authorization']}\r\n\r\n".encode() + encoded)
    return Client(reader, writer)
