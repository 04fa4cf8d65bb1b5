"""
The primaries of a cluster: a line for each, found by the slot of a key.

Rules:
- A node is asked for the slots at the first call, when one says that a slot has moved (which is believed at once), when
  a line ended, and in every survey. Some are asked at a time, and who is with the majority and has heard of the last
  change is believed: a dead one costs nothing, and one that was cut off misleads nobody.
- Calls for a slot of which nobody knows the primary wait in the lobby for the next answer, and no longer.

Must not know what a call is about.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from redis.crc import key_slot

from proxy.redis.address import Node
from proxy.redis.socket import PAUSE_S, Command, ErrorReply, ServerSilent, Socket, SocketLost
from proxy.redis.topology import Target

SLOTS = 16_384
ASKED_AT_ONCE = 3

_log = logging.getLogger(__name__)


class Cluster:
    """The `Primaries` of a cluster; `lead` makes a line, `nodes` are those that the operator named."""

    def __init__(self, nodes: Sequence[Node], lead: Callable[[Node], Socket]) -> None:
        self._nodes = tuple(nodes)
        self._lead = lead
        self._lines: dict[Node, Socket] = {}
        self._serving: frozenset[Socket] = frozenset()
        self._lobby = _Lobby(self)
        self._slots: list[Target] = [self._lobby] * SLOTS
        self._looking: asyncio.Task[frozenset[Socket]] | None = None

    def of(self, key: str | None) -> Target:
        """Return the line to the primary of a key's slot, or what waits until that is known."""
        return self._slots[key_slot(key.encode()) if key is not None else 0]

    def knows(self, key: str | None) -> bool:
        """Tell whether a key has a primary."""
        return self.of(key) is not self._lobby

    def elsewhere(self, place: Node, slot: int | None) -> Socket:
        """Return the line to a node; where a slot has moved there, what else has moved is asked for."""
        line = self._at(place)
        if slot is not None:
            self._slots[slot] = line
            self.look()
        return line

    def doubt(self, key: str | None) -> None:
        """Let calls that would go over a line that ended wait until the cluster has told who has its slots."""
        line = self.of(key)
        if line in self._serving:
            self._serving -= {line}
            self._slots = [self._lobby if each is line else each for each in self._slots]

    async def survey(self) -> Sequence[Socket]:
        """
        Ask for the slots anew; return the lines to all who have any.

        Raises: SocketLost.
        """
        # What was told, not what others have left of it meanwhile: a primary that died must be missed.
        return tuple(await asyncio.shield(self.look()))

    async def close(self) -> None:
        """End every line."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        self._lobby.leave(SocketLost("nobody calls any more"))
        for line in self._lines.values():
            await line.close()

    def look(self) -> "asyncio.Task[frozenset[Socket]]":
        """Ask for the slots, once for all who want to know."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(self._looked)
        return self._looking

    def _looked(self, task: "asyncio.Task[frozenset[Socket]]") -> None:
        self._looking = None
        if not task.cancelled():
            self._lobby.leave(task.exception())

    def _at(self, place: Node) -> Socket:
        if place not in self._lines:
            self._lines[place] = self._lead(place)
        return self._lines[place]

    async def _look(self) -> frozenset[Socket]:
        places = list(dict.fromkeys((*self._lines, *self._nodes)))
        fault: BaseException | None = None
        for first in range(0, len(places), ASKED_AT_ONCE):
            views, fault = await _views([self._at(place) for place in places[first : first + ASKED_AT_ONCE]])
            if views:
                best = max(views, key=lambda view: view.rank)
                return await self._adopt(best.told_by, best.rows)
        raise SocketLost(f"no node of the cluster answers: {fault}") from fault

    async def _adopt(self, told_by: Socket, rows: Iterable[Any]) -> frozenset[Socket]:
        slots: list[Target] = [self._lobby] * SLOTS
        found = set()
        for first, last, (host, port, *_), *_ in rows:
            line = self._at(place_of(host, port, told_by))
            slots[first : last + 1] = [line] * (last + 1 - first)
            found.add(line)
        serving = frozenset(found)
        if self._serving and serving != self._serving:
            _log.warning("redis_cluster_changed", extra={"primaries": sorted(str(line.place) for line in serving)})
        self._slots, self._serving = slots, serving
        for place, line in list(self._lines.items()):
            if line not in serving and line.idle:
                await self._lines.pop(place).close()
        return serving


class _Lobby:
    """Where calls wait for a line."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._calls: list[Command] = []

    def send(self, call: Command) -> None:
        """Keep a call until the slots are known."""
        call.held()
        self._calls.append(call)
        self._cluster.look()

    def leave(self, fault: BaseException | None) -> None:
        """Send what waits to where it belongs, if there is such a place."""
        calls, self._calls = self._calls, []
        for call in calls:
            if isinstance(fault, Exception):
                call.lost(fault)
            elif self._cluster.knows(call.key):
                self._cluster.of(call.key).send(call)
            else:
                call.lost(SocketLost("no node of the cluster has this slot"))


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


async def _views(lines: Sequence[Socket]) -> tuple[list[_View], BaseException | None]:
    """Ask several; return what they say who answer at about the time of the first, and what went wrong with another."""
    asked = [asyncio.create_task(_view(line)) for line in lines]
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


async def _view(line: Socket) -> _View:
    rows, info = await asyncio.gather(line.ask("CLUSTER", "SLOTS"), line.ask("CLUSTER", "INFO"))
    told = dict(each.split(":", 1) for each in info.splitlines() if ":" in each)
    return _View(line, (told["cluster_state"] == "ok", int(told["cluster_current_epoch"])), rows)
