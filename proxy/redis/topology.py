"""
Which server answers for a key: the only one, the primary that sentinels name, or (`cluster.py`) that of the key's slot.

Each topology has sockets to primaries. They differ in how many there are and in who is asked where these are.

Rules:
- Sentinels are asked in turn, first the one that answered last; a silent one must not cost the whole deadline.
- `survey` looks whether what is known still holds, so that a primary that was replaced without ending its connections
  is left within a beat of the gateway.

Must not know what a command is about.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from proxy.redis.address import Node
from proxy.redis.socket import Command, ErrorReply, ServerSilent, Socket, SocketLost

_log = logging.getLogger(__name__)


class Target(Protocol):
    """What takes a command."""

    def send(self, command: Command) -> None:
        """Send it, now or when it is known whereto."""


class Topology(Protocol):
    """The sockets to all primaries."""

    def of(self, key: str | None) -> Target:
        """Return the socket for a key; any for none."""

    def elsewhere(self, place: Node, slot: int | None) -> Socket | None:
        """Return the socket to a server named for one command, or for a `slot` from now on; None for nowhere."""

    def doubt(self, key: str | None) -> None:
        """Note that the connection for a key ended."""

    async def survey(self) -> Sequence[Socket]:
        """Look where the primaries are now; return their sockets. Raises: ServerSilent, SocketLost, ErrorReply."""

    async def close(self) -> None:
        """End every socket."""


class Standalone:
    """One server."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    def of(self, key: str | None) -> Socket:
        """Return its socket."""
        return self._socket

    def elsewhere(self, place: Node, slot: int | None) -> Socket | None:
        """Follow nobody: a server that is part of a cluster is none alone."""
        return None

    def doubt(self, key: str | None) -> None:
        """Do nothing: the socket connects again, wherever the server is then."""

    async def survey(self) -> Sequence[Socket]:
        """Return its socket, which leads to where the server is now."""
        await self._socket.relocate()
        return [self._socket]

    async def close(self) -> None:
        """End its socket."""
        await self._socket.close()


class Sentinels:
    """The sentinels that know where the primary of a service is."""

    def __init__(self, sockets: Sequence[Socket], service: str) -> None:
        self._sockets = list(sockets)
        self._service = service
        self._named: Node | None = None

    async def primary(self) -> Node:
        """
        Return where the primary is.

        Raises: SocketLost, where none of them tells.
        """
        for socket in tuple(self._sockets):
            with suppress(ServerSilent, SocketLost, ErrorReply):
                if found := await socket.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service):
                    self._sockets.remove(socket)
                    self._sockets.insert(0, socket)
                    return self._tell(Node(found[0], int(found[1])))
        raise SocketLost(f"no sentinel names the primary of {self._service}")

    def _tell(self, place: Node) -> Node:
        if self._named not in (None, place):
            _log.warning("redis_failover", extra={"primary": str(place), "was": str(self._named)})
        self._named = place
        return place

    async def close(self) -> None:
        """End the sockets to them."""
        for socket in self._sockets:
            await socket.close()


class Watched(Standalone):
    """The primary that sentinels name."""

    def __init__(self, socket: Socket, sentinels: Sentinels) -> None:
        super().__init__(socket)
        self._sentinels = sentinels

    async def close(self) -> None:
        """End its socket and those to the sentinels."""
        await super().close()
        await self._sentinels.close()
