"""What the connections of one listener share: its bounds, who serves what, and whether it is being stopped."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.edge.connections import Connections
from proxy.edge.direct_cycle import Serve
from proxy.edge.discarding import Discarding
from proxy.edge.forwarded import Networks


@dataclass(slots=True, kw_only=True)
class Edge:
    """What the connections of one listener share."""

    connections: Connections
    head_s_max: float
    write_s_max: float = 60.0
    """For a client to take a buffer of what it is sent."""
    refused: Callable[[str], None] = lambda reason: None
    """Told the code of each refusal, or one of `refusal.py` where nobody is told."""
    draining: bool = False
    """Whether every answer from now on is its connection's last."""
    lingering: int = 0
    """Connections that have ended but for a client that may still be sending."""
    discarding: Discarding = field(default_factory=Discarding)
    """What they send, thrown away at one pace for all."""
    trusted_proxies: Networks = ()
    """Networks of proxies whose word counts on where their clients are."""
    direct: Mapping[bytes, Serve] = field(default_factory=dict)
    """Who serves a POST to one of these paths, without ASGI."""
    _defaults: list[tuple[bytes, bytes]] = field(default_factory=list)
    _default_lines: bytes = b""

    def default_lines(self, defaults: list[tuple[bytes, bytes]]) -> bytes:
        """Return the headers of every answer as lines; uvicorn makes a new list of them every second."""
        if defaults is not self._defaults:
            self._defaults = defaults
            self._default_lines = b"".join([b"%b: %b\r\n" % pair for pair in defaults])
        return self._default_lines
