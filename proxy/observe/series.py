"""
Series that are counted together, found by their label values.

Decision: children are kept by their label values in bounded dictionaries. Because `labels()` costs more than the rest
of a count; instead of being looked up each time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import Counter, Histogram

from proxy.billing.record import ExchangeRecord

CHILDREN_MAX = 10_000

_Made = TypeVar("_Made")


class Children(dict[tuple[str, ...], _Made], Generic[_Made]):
    """What was made for each set of label values; emptied when full, since making it again gives the same series."""

    def __init__(self, make: Callable[..., _Made]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, values: tuple[str, ...]) -> _Made:
        if len(self) >= CHILDREN_MAX:
            self.clear()
        made = self[values] = self._make(*values)
        return made


@dataclass(frozen=True, slots=True)
class TokenCounters:
    """The three kinds of tokens of one tenant and model, or of one tenant and user."""

    prompt: Counter
    cached: Counter
    completion: Counter

    @classmethod
    def of(cls, metric: Counter, *values: str) -> "TokenCounters":
        return cls(*(metric.labels(*values, kind) for kind in ("prompt", "cached", "completion")))

    def add(self, record: ExchangeRecord) -> None:
        """Count what the record bills, as far as it is no credit."""
        self.prompt.inc(max(0, record.prompt_tokens))
        self.cached.inc(max(0, record.cached_tokens))
        self.completion.inc(max(0, record.completion_tokens))

    def take_away(self, record: ExchangeRecord) -> None:
        """Count what the record credits."""
        self.prompt.inc(max(0, -record.prompt_tokens))
        self.cached.inc(max(0, -record.cached_tokens))
        self.completion.inc(max(0, -record.completion_tokens))


@dataclass(frozen=True, slots=True)
class Timings:
    """The histograms of one model and lane."""

    request: Histogram
    ttft: Histogram
    tpot: Histogram
    queue_wait: Histogram
    overhead: Histogram
