"""Pages of other origins, which read an answer in a browser only where it says that they may."""

from collections.abc import Sequence

_OURS = ("replica", "queue-ms", "max-completion", "ignored", "charge", "first-request-id")
EXPOSED = (
    "x-request-id",
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    *(f"x-ratelimit-{what}-{unit}" for what in ("limit", "remaining", "reset") for unit in ("requests", "tokens")),
    *(f"x-tollway-{name}" for name in _OURS),
)
"""Headers of an answer that a page's own script may read."""

_ANY = "*"


class Pages:
    """
    The origins whose pages may read answers that are not Litestar's, which has its own for the rest.

    Source: Fetch, section 3.3.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        exposed = f"access-control-expose-headers: {', '.join(EXPOSED)}\r\n"
        self._anyone = f"access-control-allow-origin: *\r\n{exposed}".encode() if _ANY in origins else b""
        self._listed = {
            origin.encode(): f"access-control-allow-origin: {origin}\r\nvary: Origin\r\n{exposed}".encode()
            for origin in origins
        }

    def headers(self, origin: bytes | None) -> bytes:
        """Return the lines that an answer to a request from a page of this origin has."""
        return b"" if origin is None else self._anyone or self._listed.get(origin, b"")
