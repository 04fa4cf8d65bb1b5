"""
Which server answers for a key: the only one, the primary that sentinels name, or (`cluster.py`) that of the key's slot.

All are lines to primaries, which differ in how many there are and in who is asked where they lead.

Rules:
- Sentinels are asked in turn, first the one that answered last; a silent one must not cost the whole deadline.
- `survey` looks whether what is known still holds, so that a primary that was replaced without ending its sockets is
  left within a beat of the gateway.

Must not know what a call is about.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from proxy.redis.address import Node
from proxy.redis.socket import Command, ErrorReply, ServerSilent, Socket, SocketLost

_log = logging.getLogger(__name__)


class Target(Protocol):
    """What takes a call."""

    def send(self, call: Command) -> None:
        """Send it, now or when it is known whereto."""


class Topology(Protocol):
    """The lines to all primaries."""

    def of(self, key: str | None) -> Target:
        """Return the line for a key; any for none."""

    def elsewhere(self, place: Node, slot: int | None) -> Socket | None:
        """Return the line to a server that was named for one call, or for a `slot` from now on; None for nowhere."""

    def doubt(self, key: str | None) -> None:
        """Note that the line for a key ended."""

    async def survey(self) -> Sequence[Socket]:
        """Look where the primaries are now; return their lines. Raises: ServerSilent, SocketLost, ErrorReply."""

    async def close(self) -> None:
        """End every line."""


class Standalone:
    """One line."""

    def __init__(self, line: Socket) -> None:
        self._line = line

    def of(self, key: str | None) -> Socket:
        """Return it."""
        return self._line

    def elsewhere(self, place: Node, slot: int | None) -> Socket | None:
        """Follow nobody: a server that is part of a cluster is none alone."""
        return None

    def doubt(self, key: str | None) -> None:
        """Do nothing: the line opens again, wherever it leads then."""

    async def survey(self) -> Sequence[Socket]:
        """Return it, led to where it should lead."""
        await self._line.relocate()
        return [self._line]

    async def close(self) -> None:
        """End it."""
        await self._line.close()


class Sentinels:
    """Whom to ask where the primary of a service is."""

    def __init__(self, lines: Sequence[Socket], service: str) -> None:
        self._lines = list(lines)
        self._service = service
        self._named: Node | None = None

    async def primary(self) -> Node:
        """
        Return where the primary is.

        Raises: SocketLost, where none of them tells.
        """
        for line in tuple(self._lines):
            with suppress(ServerSilent, SocketLost, ErrorReply):
                if found := await line.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service):
                    self._lines.remove(line)
                    self._lines.insert(0, line)
                    return self._tell(Node(found[0], int(found[1])))
        raise SocketLost(f"no sentinel names the primary of {self._service}")

    def _tell(self, place: Node) -> Node:
        if self._named not in (None, place):
            _log.warning("redis_failover", extra={"primary": str(place), "was": str(self._named)})
        self._named = place
        return place

    async def close(self) -> None:
        """End the lines to them."""
        for line in self._lines:
            await line.close()


class Watched(Standalone):
    """The primary that sentinels name."""

    def __init__(self, line: Socket, sentinels: Sentinels) -> None:
        super().__init__(line)
        self._sentinels = sentinels

    async def close(self) -> None:
        """End its line and those to the sentinels."""
        await super().close()
        await self._sentinels.close()
