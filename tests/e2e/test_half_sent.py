"""
One user sends half of many bodies and no more, on real sockets: others are served at once, and what it held is given
back.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.asks import CHAT, chat
from tests.e2e.gateway import CONFIG, Running, gateway_of
from tests.e2e.test_slow_readers import resident_bytes
from tests.raw_http import RawAnswer, RawClient, connected

MIB = 2**20
HALVES = 60
HALF_BYTES = 2 * MIB
ROOM_BYTES = 64 * MIB
"""For all bodies; what is sent of them is twice as much."""
STALL_S = 3


def half(running: Running, user: str) -> bytes:
    """Return the first half of a body, and its head."""
    token = running.bearer("acme", user)["authorization"]
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\ncontent-length: {2 * HALF_BYTES}\r\n\r\n"
    return head.encode() + b'{"model":"demo","messages":[{"role":"user","content":"'.ljust(HALF_BYTES, b"x")


async def answer_of(client: RawClient, sent: bytes) -> RawAnswer:
    """Send, and return the answer as soon as it comes."""
    with suppress(ConnectionError):
        await client.send(sent)
    return await client.answer()


@asynccontextmanager
async def serving(folder: Path, **limits: int) -> AsyncIterator[Running]:
    environment = {f"TOLLWAY__LIMITS__{name}": str(value) for name, value in limits.items()}
    starting = gateway_of(CONFIG, folder, environment=environment)
    running = await asyncio.to_thread(starting.__enter__)
    try:
        yield running
    finally:
        await asyncio.to_thread(starting.__exit__, None, None, None)


@asynccontextmanager
async def attacked(running: Running) -> AsyncIterator[list[asyncio.Task[RawAnswer]]]:
    """Have eve's halves at the gateway in the block, and their answers behind it."""
    there = asyncio.Semaphore(0)

    async def sends() -> RawAnswer:
        async with connected(*running.address) as client:
            asked = asyncio.create_task(answer_of(client, half(running, "eve")))
            await asyncio.wait([asked], timeout=STALL_S / 3)
            there.release()
            return await asked

    async with asyncio.TaskGroup() as group:
        attacks = [group.create_task(sends()) for _ in range(HALVES)]
        for _ in range(HALVES):
            await there.acquire()
        yield attacks


async def test_half_sent_bodies_of_one_user_stop_nobody_else(folder: Path) -> None:
    async with serving(folder, BODIES_BYTES_MAX=ROOM_BYTES, BODY_STALL_S=STALL_S) as running:
        async with attacked(running) as attacks:
            for tenant, user in (("acme", "ada"), ("globex", "bob")):
                async with running.client(running.bearer(tenant, user)) as client:
                    small = await client.post(CHAT, json=chat(4))
                    large = await client.post(CHAT, json=chat(4) | {"ignored": "x" * MIB})
                    assert (small.status_code, large.status_code) == (200, 200), large.text
            async with running.client(running.bearer("acme", "eve")) as client:
                assert (await client.post(CHAT, json=chat(4))).status_code == 200, "what is small is nobody's part"
        answers = [attack.result() for attack in attacks]
    told = {(answer.status, answer.code) for answer in answers}
    assert told == {(429, "concurrency_limit_exceeded"), (408, "request_timeout")}
    assert sum(answer.status == 408 for answer in answers) * HALF_BYTES <= ROOM_BYTES // 8
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.headers["retry-after"] == "1"
    assert "The bodies of this user's requests and answers hold" in refused.json["error"]["message"]


async def test_what_bodies_held_is_given_back(folder: Path) -> None:
    limits = {"BODIES_BYTES_MAX": 8 * ROOM_BYTES, "BODIES_TENANT_PART": 1, "BODIES_USER_PART": 1}
    async with serving(folder, BODY_STALL_S=STALL_S, **limits) as running:
        before = resident_bytes(running)
        async with attacked(running) as attacks:
            assert resident_bytes(running) - before > HALVES * HALF_BYTES / 2
        assert {attack.result().status for attack in attacks} == {408}
        async with running.client(running.bearer("acme", "eve")) as client:
            for _ in range(HALVES // 2):
                too_long = chat(4) | {"messages": [{"role": "user", "content": "x" * HALF_BYTES}]}
                assert (await client.post(CHAT, json=too_long)).status_code == 400, "by the engine"
        await asyncio.sleep(0.5)
        assert resident_bytes(running) - before < HALVES * HALF_BYTES / 5
