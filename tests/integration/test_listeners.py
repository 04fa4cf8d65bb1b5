"""The two sockets: what is said of an address that cannot be had, and what stopping does to running answers."""

import asyncio
import select
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack

import httpx
import pytest
from litestar import Litestar, get
from litestar.response import Stream
from litestar.types import Receive, Scope, Send

from proxy.edge.connections import Connections
from proxy.edge.edge import Edge
from proxy.http.listeners import AddressUnavailable, Drain, beside, bound, reserved, served, url_of

DEADLINE_S = 10.0


@pytest.mark.parametrize(
    ("host", "prefix"),
    [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:"), ("localhost", "http://127.0.0.1:")],
)
def test_an_address_is_told_as_one_that_can_be_opened(host: str, prefix: str) -> None:
    with bound(host, 0) as listening:
        url = url_of(listening)
        assert url.startswith(prefix)
        with socket.create_connection(("127.0.0.1", int(url.removeprefix(prefix)))):
            pass


def test_an_address_in_use_is_one_clear_line() -> None:
    with bound("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnavailable, match=rf"^cannot listen on 127.0.0.1:{port}: .*in use"):
            bound("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("no such host", 0)])
def test_an_address_that_is_not_ours_is_one_clear_line(host: str, port: int) -> None:
    with pytest.raises(AddressUnavailable) as caught:
        bound(host, port)
    assert str(caught.value).startswith(f"cannot listen on {host}:{port}: ")
    assert "\n" not in str(caught.value)


def test_a_reserved_address_is_shared_by_those_who_bind_beside_it_and_by_nobody_else() -> None:
    with reserved("127.0.0.1", 0) as keeping, ExitStack() as workers:
        port = keeping.getsockname()[1]
        listening = [workers.enter_context(beside("127.0.0.1", port)) for _ in range(2)]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        for one in listening:
            one.listen()
        for take in (bound, reserved):
            with pytest.raises(AddressUnavailable, match=rf"^cannot listen on 127.0.0.1:{port}: .*in use"):
                take("127.0.0.1", port)
        for _ in range(32):
            workers.enter_context(socket.create_connection(("127.0.0.1", port)))
        waiting = select.poll()
        for one in listening:
            waiting.register(one, select.POLLIN)
        assert len(waiting.poll(1_000)) == 2, "both have somebody at the door"


def test_an_address_cannot_be_shared_without_being_reserved_first() -> None:
    with bound("127.0.0.1", 0) as taken, pytest.raises(AddressUnavailable, match="in use"):
        beside(*taken.getsockname())


def edge() -> Edge:
    return Edge(connections=Connections(10, 10), head_s_max=DEADLINE_S)


class Answering:
    """An application whose answer ends when the test says so."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

        async def parts() -> AsyncIterator[bytes]:
            yield b"begun "
            self.begun.set()
            await self.may_end.wait()
            yield b"ended"

        @get("/")
        async def answer() -> Stream:
            return Stream(parts())

        self.app = Litestar([answer], openapi_config=None, logging_config=None)


async def test_a_running_answer_ends_before_its_listener_does() -> None:
    answering = Answering()
    with bound("127.0.0.1", 0) as listening:
        async with asyncio.timeout(DEADLINE_S), httpx.AsyncClient(verify=False) as client:
            async with served(answering.app, listening, edge(), drain=Drain(DEADLINE_S)):
                asking = asyncio.create_task(client.get(url_of(listening)))
                await answering.begun.wait()
                asyncio.get_running_loop().call_later(0.05, answering.may_end.set)
            assert (await asking).text == "begun ended"


async def test_the_processs_signals_are_left_alone() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with bound("127.0.0.1", 0) as listening:
        async with served(Answering().app, listening, edge(), drain=Drain(1)):
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


async def test_a_request_that_was_sent_before_the_stop_is_answered_even_by_a_busy_gateway() -> None:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok", "more_body": False})

    async def busy() -> None:
        while True:
            time.sleep(0.08)  # noqa: ASYNC251 - that is what it means to be busy
            await asyncio.sleep(0)

    def asking(address: tuple[str, int]) -> socket.socket:
        client = socket.create_connection(address, timeout=DEADLINE_S)
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        return client

    connections = Edge(connections=Connections(100, 100), head_s_max=DEADLINE_S)
    with bound("127.0.0.1", 0) as listening, ExitStack() as stack:
        async with served(answer, listening, connections, drain=Drain(DEADLINE_S)):
            working = asyncio.create_task(busy())
            clients = [stack.enter_context(asking(listening.getsockname())) for _ in range(50)]
        working.cancel()
        answers = [client.recv(65_536) for client in clients]
        assert all(answer.endswith(b"ok") and b"connection: close" in answer for answer in answers)


async def test_a_client_that_does_not_take_the_news_of_its_cut_holds_up_no_stop() -> None:
    ended = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
        except asyncio.CancelledError:
            await send({"type": "http.response.body", "body": b"cut", "more_body": False})
            ended.set()

    with bound("127.0.0.1", 0) as listening, ExitStack() as stack:
        async with asyncio.timeout(DEADLINE_S), served(endless, listening, edge(), drain=Drain(0)):
            client = stack.enter_context(socket.create_connection(listening.getsockname()))
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.to_thread(client.recv, 1)
        assert ended.is_set()
