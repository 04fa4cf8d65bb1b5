"""Answers in one piece that their clients do not read: counted until they are read, and no other user is stopped."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.asks import CHAT, chat
from tests.e2e.bare_client import ask
from tests.e2e.gateway import gateway_of
from tests.e2e.test_cuts import CONFIG

MIB = 2**20
ROOM_BYTES = 64 * MIB
"""Of which one user has an eighth."""
PATIENCE = {f"TOLLWAY__LIMITS__{name}_S_MAX": "120" for name in ("TTFT", "IDLE", "WRITE", "EXCHANGE")}
LOGPROBS: dict[str, Any] = {"logprobs": True, "top_logprobs": 20}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a replica whose answers with logprobs have 6 MiB."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            asked = b""
            if b"content-length: " in head:
                asked = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            text = "x" * (6 * MIB if b'"logprobs"' in asked else 3)
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            answer = {"id": "chatcmpl-x", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
            body = json.dumps(answer, separators=(",", ":")).encode() if head.startswith(b"POST") else b""
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        writer.close()


@asynccontextmanager
async def replica() -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_answers_that_nobody_reads_are_counted_until_they_are_read(folder: Path) -> None:
    async with replica() as url:
        where = {f"TOLLWAY__MODELS__{model}__REPLICAS__0__URL": url for model in (0, 1)}
        limits = {"TOLLWAY__LIMITS__BODIES_BYTES_MAX": str(ROOM_BYTES)}
        starting = gateway_of(CONFIG, folder, environment=PATIENCE | where | limits)
        running = await asyncio.to_thread(starting.__enter__)
        try:
            unread = await ask(running, "eve", stream=False, receive_bytes=4_096, max_tokens=2_000, **LOGPROBS)
            await unread.until(b"HTTP/1.1 200 OK")
            async with running.client(running.bearer("acme", "eve")) as eve:
                body = chat(2_000, model="silent") | LOGPROBS
                refused = await eve.post(CHAT, json=body)
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrency_limit_exceeded")
                assert (await eve.post(CHAT, json=chat(4, model="silent"))).status_code == 200
                async with running.client(running.bearer("acme", "ada")) as ada:
                    assert (await ada.post(CHAT, json=body)).status_code == 200
                assert len(await unread.rest()) > 6 * MIB
                assert (await eve.post(CHAT, json=body)).status_code == 200
        finally:
            await asyncio.to_thread(starting.__exit__, None, None, None)
