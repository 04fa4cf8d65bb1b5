"""One exchange over ASGI: the client's leaving ends the work, and the work's end is not waited for."""

import asyncio
from typing import Any

import pytest

from engine.sim.exchange import DROP, HungUp, SimExchange
from engine.sim.rejection import Overloaded


class Peer:
    """The server's side of ASGI, driven by a test."""

    def __init__(self, **scope: Any) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.exchange = SimExchange({"path": "/", "headers": [], **scope}, self.inbox.get, self.send)

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self.inbox.put_nowait({"type": "http.disconnect"})


async def test_leaving_cancels_the_work_and_waits_for_its_cleaning_up() -> None:
    peer, log = Peer(), []

    async def work() -> None:
        try:
            peer.leave()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            log.append("cleaned up")

    with pytest.raises(HungUp):
        await peer.exchange.until_hung_up(work())
    assert log == ["cleaned up"]


async def test_finished_work_does_not_wait_for_the_client() -> None:
    await asyncio.wait_for(Peer().exchange.until_hung_up(asyncio.sleep(0)), 1)


async def test_the_works_own_fault_comes_through() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Peer().exchange.until_hung_up(work())


async def test_an_in_band_rejection_is_a_stream_of_two_frames() -> None:
    peer = Peer()
    await peer.exchange.reject(Overloaded(in_band=True))
    start, *bodies = peer.sent
    assert start["status"] == 200
    assert [body["body"][:14] for body in bodies] == [b'data: {"error"', b"data: [DONE]\n\n", b""]


async def test_the_clients_request_id_names_the_answer_and_comes_back() -> None:
    peer = Peer(headers=[(b"x-request-id", b"r")])
    peer.exchange.name("chatcmpl")
    await peer.exchange.json(200, b"{}")
    assert peer.exchange.id == "chatcmpl-r"
    assert (b"x-request-id", b"r") in peer.sent[0]["headers"]


async def test_dropping_closes_the_connection_and_is_no_hang_up_of_the_client() -> None:
    peer = Peer()
    peer.exchange = SimExchange(
        {"path": "/", "headers": [], "extensions": {DROP: {"close": peer.leave}}}, peer.inbox.get, peer.send
    )
    with pytest.raises(HungUp):
        await peer.exchange.until_hung_up(peer.exchange.drop())
    assert peer.exchange.dropped
    assert peer.sent == []
