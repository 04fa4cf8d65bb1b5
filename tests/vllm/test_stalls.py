"""An engine that stands still while a request runs on it: told by its own counts, and over when it goes on."""

import asyncio
import json

import pytest

from tests.vllm.fleet import CHAT, Fleet, long_stream

SEEN_S_MAX = 45.0
"""Two or three looks, 5 s apart, on a busy machine; the client reads on for 60 s."""


async def until_stalled(fleet: Fleet, replica: str, value: int) -> None:
    """Wait until the gateway says so of a replica."""
    async with asyncio.timeout(SEEN_S_MAX):
        while fleet.gateway.metrics("tollway_replica_stalled", replica=replica) != value:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


@pytest.mark.timeout(420)
async def test_an_engine_that_stands_still_is_told_and_its_stream_goes_on_when_it_does(fleet: Fleet) -> None:
    async with fleet.client("stalled") as client, client.stream("POST", CHAT, json=long_stream()) as answer:
        replica, lines = answer.headers["x-tollway-replica"], answer.aiter_lines()
        for _ in range(20):
            await anext(lines)
        await fleet.control("/pause?mode=keep", replica)
        try:
            await until_stalled(fleet, replica, 1)
            listed = json.loads(fleet.gateway.admin("/admin/replicas"))["data"]
        finally:
            await fleet.control("/resume", replica)
        read = [line async for line in lines if line]
    [shown] = [each for each in listed if each["name"] == replica]
    assert (shown["healthy"], shown["stalled"]) == (True, True)
    assert shown["cause"].endswith(" s while 1 requests run")
    assert read[-1] == "data: [DONE]"
    await until_stalled(fleet, replica, 0)
    await fleet.settled()
