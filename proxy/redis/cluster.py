"""
The primaries of a cluster: a socket for each, found by the slot of a key.

Rules:
- A node is asked for the slots at the first command, when one says that a slot has moved (which is believed at once),
  when a connection ended, and in every survey. Some are asked at a time, and who is with the majority and has heard of
  the last change is believed: a dead one costs nothing, and one that was cut off misleads nobody.
- Commands for a slot of which nobody knows the primary are pending until the next answer, and no longer.

Must not know what a command is about.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from proxy.redis.address import Node
from proxy.redis.socket import PAUSE_S, Command, ErrorReply, ServerSilent, Socket, SocketLost
from proxy.redis.topology import Target

SLOTS = 16_384
ASKED_AT_ONCE = 3

_log = logging.getLogger(__name__)


class Cluster:
    """The topology of a cluster; `socket_to` makes a socket, `nodes` are those that the operator named."""

    def __init__(self, nodes: Sequence[Node], socket_to: Callable[[Node], Socket]) -> None:
        # Only a cluster asks for it, and the import takes a process 16 MB and 0.3 s of CPU.
        from redis.crc import key_slot

        self._slot_of = key_slot
        self._nodes = tuple(nodes)
        self._socket_to = socket_to
        self._sockets: dict[Node, Socket] = {}
        self._serving: frozenset[Socket] = frozenset()
        self._pending = _Pending(self)
        self._slots: list[Target] = [self._pending] * SLOTS
        self._looking: asyncio.Task[frozenset[Socket]] | None = None

    def of(self, key: str | None) -> Target:
        """Return the socket to the primary of a key's slot, or what waits until that is known."""
        return self._slots[self._slot_of(key.encode()) if key is not None else 0]

    def knows(self, key: str | None) -> bool:
        """Tell whether a key has a primary."""
        return self.of(key) is not self._pending

    def elsewhere(self, place: Node, slot: int | None) -> Socket:
        """Return the socket to a node; where a slot has moved there, what else has moved is asked for."""
        socket = self._at(place)
        if slot is not None:
            self._slots[slot] = socket
            self.look()
        return socket

    def doubt(self, key: str | None) -> None:
        """Let commands whose connection has ended wait until the cluster has told who has its slots."""
        socket = self.of(key)
        if socket in self._serving:
            self._serving -= {socket}
            self._slots = [self._pending if each is socket else each for each in self._slots]

    async def survey(self) -> Sequence[Socket]:
        """
        Ask for the slots anew; return the sockets to all who have any.

        Raises: SocketLost.
        """
        # What was told, not what others have left of it meanwhile: a primary that died must be missed.
        return tuple(await asyncio.shield(self.look()))

    async def close(self) -> None:
        """End every socket."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        self._pending.leave(SocketLost("nobody asks any more"))
        for socket in self._sockets.values():
            await socket.close()

    def look(self) -> "asyncio.Task[frozenset[Socket]]":
        """Ask for the slots, once for all who want to know."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(self._looked)
        return self._looking

    def _looked(self, task: "asyncio.Task[frozenset[Socket]]") -> None:
        self._looking = None
        if not task.cancelled():
            self._pending.leave(task.exception())

    def _at(self, place: Node) -> Socket:
        if place not in self._sockets:
            self._sockets[place] = self._socket_to(place)
        return self._sockets[place]

    async def _look(self) -> frozenset[Socket]:
        places = list(dict.fromkeys((*self._sockets, *self._nodes)))
        fault: BaseException | None = None
        for first in range(0, len(places), ASKED_AT_ONCE):
            views, fault = await _views([self._at(place) for place in places[first : first + ASKED_AT_ONCE]])
            if views:
                best = max(views, key=lambda view: view.rank)
                return await self._adopt(best.told_by, best.rows)
        raise SocketLost(f"no node of the cluster answers: {fault}") from fault

    async def _adopt(self, told_by: Socket, rows: Iterable[Any]) -> frozenset[Socket]:
        slots: list[Target] = [self._pending] * SLOTS
        found = set()
        for first, last, (host, port, *_), *_ in rows:
            socket = self._at(place_of(host, port, told_by))
            slots[first : last + 1] = [socket] * (last + 1 - first)
            found.add(socket)
        serving = frozenset(found)
        if self._serving and serving != self._serving:
            _log.warning("redis_cluster_changed", extra={"primaries": sorted(str(socket.place) for socket in serving)})
        self._slots, self._serving = slots, serving
        for place, socket in list(self._sockets.items()):
            if socket not in serving and socket.idle:
                await self._sockets.pop(place).close()
        return serving


class _Pending:
    """Where commands wait for a socket."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._commands: list[Command] = []

    def send(self, command: Command) -> None:
        """Keep a command until the slots are known."""
        command.held()
        self._commands.append(command)
        self._cluster.look()

    def leave(self, fault: BaseException | None) -> None:
        """Send what waits to where it belongs, if there is such a place."""
        commands, self._commands = self._commands, []
        for command in commands:
            if isinstance(fault, Exception):
                command.lost(fault)
            elif self._cluster.knows(command.key):
                self._cluster.of(command.key).send(command)
            else:
                command.lost(SocketLost("no node of the cluster has this slot"))


def place_of(host: str | None, port: int, told_by: Socket) -> Node:
    """Return a node's place; one whose host is not told (nothing, or "?") is where it was asked."""
    if host and host != "?":
        return Node(host, port)
    return Node(told_by.place.host if told_by.place else "", port)


class _View(NamedTuple):
    """Who has which slots, as one node sees it."""

    told_by: Socket
    rank: tuple[bool, int]
    """Whether it is with the majority, and how late the last change is that it has heard of."""
    rows: list[Any]


async def _views(sockets: Sequence[Socket]) -> tuple[list[_View], BaseException | None]:
    """Ask several. Return the views that come with the first one or just after it, and a fault of another."""
    asked = [asyncio.create_task(_view(socket)) for socket in sockets]
    fault: BaseException | None = None
    try:
        for first in asyncio.as_completed(asked):
            try:
                await first
            except (ServerSilent, SocketLost, ErrorReply) as error:
                fault = error
            else:
                await asyncio.wait(asked, timeout=PAUSE_S)
                break
        return [task.result() for task in asked if task.done() and task.exception() is None], fault
    finally:
        for task in asked:
            task.cancel()


async def _view(socket: Socket) -> _View:
    rows, info = await asyncio.gather(socket.ask("CLUSTER", "SLOTS"), socket.ask("CLUSTER", "INFO"))
    told = dict(each.split(":", 1) for each in info.splitlines() if ":" in each)
    return _View(socket, (told["cluster_state"] == "ok", int(told["cluster_current_epoch"])), rows)
