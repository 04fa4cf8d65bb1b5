"""The line between supervisor and worker: whole messages of any size, and an end that is heard."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.workers.channel import Channel, Message


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Channel, Channel]]:
    ours, theirs = socket.socketpair()
    async with Channel.over(ours) as one, Channel.over(theirs) as other:
        yield one, other


async def test_messages_arrive_whole_in_order_and_both_ways(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    large: Message = {"exposition": 'x{user="ü\n"} 1\n' * 200_000}
    sent: list[Message] = [{"ask": 1}, large, {}, {"hurry": True}]

    async def send() -> None:
        for message in sent:
            await one.send(message)

    sending = asyncio.create_task(send())
    assert [await other.receive() for _ in sent] == sent
    await sending
    await other.send({"ready": "01ABC"})
    assert await one.receive() == {"ready": "01ABC"}


async def test_an_end_that_is_gone_is_heard_after_its_last_words_and_told_nothing() -> None:
    ours, theirs = socket.socketpair()
    async with Channel.over(ours) as one:
        async with Channel.over(theirs) as other:
            await other.send({"fatal": "no"})
        assert await one.receive() == {"fatal": "no"}
        assert await one.receive() is None
        for _ in range(3):
            await one.send({"ask": 1})
        assert await one.receive() is None


async def test_a_message_that_was_cut_short_is_none() -> None:
    ours, theirs = socket.socketpair()
    async with Channel.over(ours) as one:
        with theirs:
            theirs.sendall(b"\0\0\0\x09{")
        assert await one.receive() is None
