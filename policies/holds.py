"""What a reservation holds of one limit: the common word of the three kinds of limits and of the book."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """
    One reservation's part of one limit.

    Bounds: 0 <= cost.
    """

    request_id: str
    cost: int
    ends_at_us: int = 0
    """When a request in flight is expected to end."""
    window_end_us: int | None = None
    """When the window ends that it was taken from; a refund belongs there. None for a settle without a reservation."""
