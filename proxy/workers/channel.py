"""
The line between the supervisor and one worker: a pair of connected sockets without a name, and messages of JSON on it.

The supervisor sends the task first (`{"settings", "log_level"}`), then `{"hurry": true}` and questions. The worker
sends `{"ready": INCARNATION}` or `{"fatal": WHY}`, and an answer to each question, in their order:

- `{"ask": N}`: how it stands. `{"answer": N, "exposition", "replicas", "cpu_s"}`.
- `{"ask": N, "take": STEP}`: a step of a reload; `check` has `settings`. `{"answer": N, "faults": [[PATH, WHY], ...],
  "rekeyed": [ISSUER, ...]}`, and no faults where it is done.

Whoever hears nothing more has lost the other.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson

_LENGTH = struct.Struct("!I")

Message = dict[str, Any]


class Channel:
    """One end: `async with Channel.over(end) as line`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def over(cls, end: socket.socket) -> AsyncIterator["Channel"]:
        """Own one end of a pair for the block."""
        reader, writer = await asyncio.open_unix_connection(sock=end)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def receive(self) -> Message | None:
        """Return the next message; None when the other end is gone."""
        try:
            [length] = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            message: Message = orjson.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return message

    async def send(self, message: Message) -> None:
        """Send a message; nobody hears it where the other end is gone, as `receive` will tell."""
        encoded = orjson.dumps(message)
        with suppress(ConnectionError):
            self._writer.write(_LENGTH.pack(len(encoded)) + encoded)
            await self._writer.drain()
