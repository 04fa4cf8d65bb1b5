"""How many bytes of request bodies are held at a time, over all connections."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from proxy.errors import ApiError, Code


@dataclass(slots=True)
class Bodies:
    """
    The bodies that are being read or served.

    Units: bytes as they came; parsed, a body takes several times as much.
    """

    held: int = 0

    def share(self, bytes_max: int) -> "Share":
        """Return the part of one request, which with all others may be `bytes_max`; its block gives it back."""
        return Share(self, bytes_max)


@dataclass(slots=True)
class Share:
    """What one request holds of all bodies' bytes."""

    _bodies: Bodies
    _bytes_max: int
    held: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bodies.held -= self.held

    def take(self, size: int) -> None:
        """Count bytes that have arrived; raise `ApiError` where there is no room for them."""
        bodies = self._bodies
        if bodies.held + size > self._bytes_max:
            raise ApiError(Code.OVERLOADED, "The gateway holds too many request bodies at once.", retry_after_s=1)
        bodies.held += size
        self.held += size
