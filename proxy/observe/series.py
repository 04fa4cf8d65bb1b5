"""
Series that are counted on the path of a request: plain numbers, which Prometheus's client is told when it asks.

Decision: counters and histograms of our own under prometheus_client's collector interface.
Because the library's take a lock and check their labels at each count, and a request counts fifteen times: of all
that it costs, that would be a tenth.
Instead of counting less. Gauges, which are asked for when they are shown, and the exposition stay the library's.

Rules: counted in the event loop (or always in the same thread); read in any, where a number may be newer than the one
beside it. Label values come from the config or an enum, so their number is bounded; whose do not is for the caller to
bound.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from proxy.billing.record import ExchangeRecord
from proxy.observe.definitions import TOKEN_KINDS, Definition

_Made = TypeVar("_Made")


class Children(dict[tuple[str, ...], _Made], Generic[_Made]):
    """What was made for each set of label values."""

    def __init__(self, make: Callable[..., _Made]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, values: tuple[str, ...]) -> _Made:
        made = self[values] = self._make(*values)
        return made


class Sum:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        """Count; the amount is not negative."""
        self.value += amount


class Distribution:
    """One series of a histogram."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """How many were seen up to each bound and over the one before; the last are over all."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


class CounterSeries(Collector):
    """A counter."""

    def __init__(self, metric: Definition) -> None:
        self._metric = metric
        self.series: Children[Sum] = Children(lambda *values: Sum())
        if not metric.labels:
            self.series[()]

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Return it as it stands."""
        metric = self._metric
        family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        for values, sums in tuple(self.series.items()):
            family.add_metric(values, sums.value / metric.counted_in)
        yield family


class HistogramSeries(Collector):
    """A histogram."""

    def __init__(self, metric: Definition) -> None:
        self._metric = metric
        self._names = [*map(floatToGoString, metric.buckets), "+Inf"]
        self.series: Children[Distribution] = Children(lambda *values: Distribution(metric.buckets))
        if not metric.labels:
            self.series[()]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Return it as it stands."""
        metric = self._metric
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for values, seen in tuple(self.series.items()):
            family.add_metric(values, list(zip(self._names, accumulate(seen.counts), strict=True)), seen.sum)
        yield family


@dataclass(frozen=True, slots=True)
class TokenCounters:
    """The three kinds of tokens of one tenant and model."""

    prompt: Sum
    cached: Sum
    completion: Sum

    @classmethod
    def of(cls, series: Children[Sum], *values: str) -> "TokenCounters":
        return cls(*(series[*values, kind] for kind in TOKEN_KINDS))

    def add(self, record: ExchangeRecord) -> None:
        """Count what the record bills, as far as it is no credit."""
        if record.prompt_tokens > 0:
            self.prompt.value += record.prompt_tokens
        if record.cached_tokens > 0:
            self.cached.value += record.cached_tokens
        if record.completion_tokens > 0:
            self.completion.value += record.completion_tokens

    def take_away(self, record: ExchangeRecord) -> None:
        """Count what the record credits."""
        self.prompt.inc(max(0, -record.prompt_tokens))
        self.cached.inc(max(0, -record.cached_tokens))
        self.completion.inc(max(0, -record.completion_tokens))


@dataclass(frozen=True, slots=True)
class Timings:
    """The histograms of one model and lane."""

    request: Distribution
    ttft: Distribution
    tpot: Distribution
    queue_wait: Distribution
    overhead: Distribution
