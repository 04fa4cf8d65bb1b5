"""
Commands to Redis that share their round trips: those that are sent in one turn of the event loop go out in one write
to each server (`socket.py`), to the primary that answers for their key (`topology.py`, `cluster.py`).

Rules:
- A command is answered within `deadline_s` or fails, however often it is sent again: every command through here changes
  nothing the second time.
- One whose connection ended is sent once more. One that came to a replica likewise, after that connection was left: the
  primary is looked up anew.
- One that a cluster sends elsewhere follows. One that it asks to try again, or that it cannot serve now, waits a moment
  and goes out again.
- A script goes by the name that Redis gives it; where Redis does not know it, it is loaded there in front of the call.

Decision: a protocol of our own over hiredis, and commands that are futures from their beginning to their end.
Because: a command costs 6 microseconds, redis-py's pipelines 18 and its single commands 60; and failing over in two
places, for scripts here and for commands in a library, lets a gateway read from one primary and write to another.
Instead of: a pool of sockets, which costs a system call or two for each command; and a coroutine for each command.

Must not know what is stored.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cached_property
from time import monotonic
from types import TracebackType
from typing import Any, Self

from proxy.redis.address import Access, Address, Deployment, Node
from proxy.redis.cluster import Cluster, place_of
from proxy.redis.socket import PAUSE_S, Command, ErrorReply, ServerSilent, Socket, SocketLost, Word, packed
from proxy.redis.topology import Sentinels, Standalone, Topology, Watched

FOLLOWED_MAX = 8
"""How often one command is sent elsewhere, or with its script in front."""

Observe = Callable[[str, float], None]
"""Told the name of each command and the seconds it took; feeds `tollway_redis_seconds{op}`."""
Fault = Callable[[Exception], Exception]


class Pipeline:
    """
    The way to Redis: `async with Pipeline("redis://localhost", deadline_s=1.0) as redis`. Connections open with
    the first command.

    `fault` turns what goes wrong (ServerSilent, SocketLost, ErrorReply) into what callers get.
    Raises: ValueError, for what is no address; UnusableCertificate.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_s: float,
        access: Access = Access(),  # noqa: B008 (it never changes)
        observe: Observe = lambda op, seconds: None,
        fault: Fault = lambda error: error,
    ) -> None:
        self.deadline_s = deadline_s
        self.observe = observe
        self.fault = fault
        self._topology = _topology(Address.of(url), access, deadline_s)
        self._left = False

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of the first command."""
        return asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the sockets; what still waits fails."""
        self._left = True
        await self._topology.close()

    def send(
        self, op: str, words: tuple[Word, ...], key: str | None = None, script: str | None = None
    ) -> asyncio.Future[Any]:
        """
        Send a command to the primary of `key`; return its answer to come, text as `str`.

        `op` is what it is called when it is observed, `script` the text of what EVALSHA names.
        Raises: what `fault` makes of ServerSilent, SocketLost and ErrorReply, when it is awaited.
        """
        request = _Request(self, op, packed(words), key, script=script)
        self._topology.of(key).send(request)
        return request.answer

    def ask(self, *words: Word) -> asyncio.Future[Any]:
        """Send a command whose first argument, if it has any, is the key; raises as `send`."""
        return self.send(str(words[0]).lower(), words, str(words[1]) if len(words) > 1 else None)

    async def ask_each(self, *words: Word) -> dict[Node, Any]:
        """Ask every primary, as it is known after a new look; raises as `send`."""
        try:
            sockets = await self._topology.survey()
            answers = await asyncio.gather(*(socket.ask(*words) for socket in sockets))
        except (ServerSilent, SocketLost, ErrorReply) as error:
            raise self.fault(error) from error
        told = zip(sockets, answers, strict=True)
        return {socket.place: answer for socket, answer in told if socket.place is not None}

    def lost(self, request: "_Request", fault: Exception) -> None:
        """Send a request once more whose connection ended, or fail it."""
        self._topology.doubt(request.key)
        if self._left or request.again or not isinstance(fault, SocketLost):
            request.fail(fault)
        else:
            request.again = True
            self._send_again(request)

    def refused(self, request: "_Request", socket: Socket, message: str) -> None:
        """Do what an error asks for, or fail."""
        word, _, rest = message.partition(" ")
        if word in ("TRYAGAIN", "CLUSTERDOWN"):
            if word == "CLUSTERDOWN":
                self._topology.doubt(request.key)
            request.held()
            self.loop.call_later(PAUSE_S, self._send_again, request)
        elif "READONLY" in message:
            fault = SocketLost(message)
            socket.leave(fault)
            self.lost(request, fault)
        elif (word in ("MOVED", "ASK") or (word == "NOSCRIPT" and request.script)) and request.followed < FOLLOWED_MAX:
            request.followed += 1
            self._follow(request, socket, word, rest)
        else:
            request.fail(ErrorReply(message))

    def _follow(self, request: "_Request", socket: Socket, word: str, rest: str) -> None:
        request.held()
        there: Socket | None = socket
        if word == "NOSCRIPT":
            _aside(socket, "SCRIPT", "LOAD", request.script or "")
        else:
            slot, _, node = rest.partition(" ")
            host, _, port = node.rpartition(":")
            there = self._topology.elsewhere(place_of(host, int(port), socket), int(slot) if word == "MOVED" else None)
        if there is None:
            request.fail(ErrorReply(f"{word} {rest}"))
            return
        if word == "ASK":
            _aside(there, "ASKING")
        there.send(request)

    def _send_again(self, request: "_Request") -> None:
        request.held()
        if not request.answer.done():
            self._topology.of(request.key).send(request)


class _Request(Command):
    """A command that somebody waits for, which goes out again where that helps, within its deadline."""

    __slots__ = ("again", "began", "followed", "op", "pipeline", "script", "timer")

    def __init__(self, pipeline: Pipeline, op: str, packed: bytes, key: str | None, *, script: str | None) -> None:
        super().__init__(pipeline.loop.create_future(), packed, key)
        self.pipeline = pipeline
        self.op = op
        self.began = self.since
        self.script = script
        self.again = False
        """Whether a connection ended on it already."""
        self.followed = 0
        self.timer: asyncio.TimerHandle | None = None

    def answered(self, value: Any, now: float) -> None:
        """Take the answer."""
        self.pipeline.observe(self.op, now - self.began)
        if self.timer is not None:
            self.timer.cancel()
        if not self.answer.done():
            self.answer.set_result(value)

    def refused(self, socket: Socket, message: str) -> None:
        """Leave it to the pipeline."""
        self.pipeline.refused(self, socket, message)

    def lost(self, fault: Exception) -> None:
        """Leave it to the pipeline."""
        self.pipeline.lost(self, fault)

    def fail(self, fault: Exception) -> None:
        """End without an answer."""
        self.pipeline.observe(self.op, monotonic() - self.began)
        if self.timer is not None:
            self.timer.cancel()
        if not self.answer.done():
            self.answer.set_exception(self.pipeline.fault(fault))

    def held(self) -> None:
        """Keep its deadline itself, since no socket does, or none knows when it began."""
        self.since = monotonic()
        if self.timer is None:
            left_s = self.began + self.pipeline.deadline_s - self.since
            self.timer = self.pipeline.loop.call_later(left_s, self._expire)

    def _expire(self) -> None:
        if not self.answer.done():
            self.fail(ServerSilent(f"no answer within {self.pipeline.deadline_s:g} s"))


def _aside(socket: Socket, *words: Word) -> None:
    """Send a command of which the answer says nothing: the command that follows it on its socket will tell."""
    socket.ask(*words).add_done_callback(lambda answer: answer.cancelled() or answer.exception())


def _topology(address: Address, access: Access, deadline_s: float) -> Topology:
    tls = access.context() if address.tls else None
    greeting = [*_authentication(address.username, access.password)]
    if address.database:
        greeting.append(("SELECT", address.database))

    def socket_to(place: Node) -> Socket:
        return Socket(_fixed(place), deadline_s=deadline_s, tls=tls, greeting=greeting)

    if address.kind is Deployment.CLUSTER:
        return Cluster(address.places, socket_to)
    if address.kind is Deployment.ALONE:
        return Standalone(socket_to(address.places[0]))
    greeting_sentinels = _authentication(access.sentinel_username, access.sentinel_password)
    share_s = deadline_s / (len(address.places) + 1)
    sentinels = Sentinels(
        [Socket(_fixed(place), deadline_s=share_s, tls=tls, greeting=greeting_sentinels) for place in address.places],
        address.service,
    )
    primary = Socket(sentinels.primary, deadline_s=deadline_s, tls=tls, greeting=greeting, primary=True)
    return Watched(primary, sentinels)


def _authentication(username: str, password: str) -> list[tuple[Word, ...]]:
    if not password:
        return []
    return [("AUTH", username, password) if username else ("AUTH", password)]


def _fixed(place: Node) -> Callable[[], Awaitable[Node]]:
    async def locate() -> Node:
        return place

    return locate
