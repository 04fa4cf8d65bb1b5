"""How many connections are open, in all and from each address; one more than allowed is told so and closed."""

from dataclasses import dataclass, field

from proxy.errors import ApiError, Code

_RETRY_AFTER_S = 1


@dataclass(slots=True)
class Connections:
    """
    The connections of one listener.

    Bounds: `total_max` open at a time, `per_address_max` of them from one address.
    """

    total_max: int
    per_address_max: int
    total: int = 0
    _of: dict[str, int] = field(default_factory=dict)

    def enter(self, address: str) -> ApiError | None:
        """Count a connection, or return why it may not stay; what was counted must `leave`."""
        if self.total >= self.total_max:
            return ApiError(
                Code.OVERLOADED, "The gateway has no room for more connections.", retry_after_s=_RETRY_AFTER_S
            )
        here = self._of.get(address, 0)
        if here >= self.per_address_max:
            message = f"More than {self.per_address_max} connections from one address."
            return ApiError(Code.CONCURRENCY_LIMIT_EXCEEDED, message, retry_after_s=_RETRY_AFTER_S)
        self.total += 1
        self._of[address] = here + 1
        return None

    def leave(self, address: str) -> None:
        """Give back the place of a connection that was counted."""
        self.total -= 1
        here = self._of[address] - 1
        if here:
            self._of[address] = here
        else:
            del self._of[address]
