"""
PromQL from the metric definitions: a panel cannot name a metric or a label that does not exist.

Every selector is narrowed by the dashboard's variables that its metric has labels for.
"""

from dataclasses import dataclass
from typing import Self

from proxy.observe.definitions import REPLICA_UP, REQUESTS, Definition, MetricKind

VARIABLES = {"tenant": REQUESTS, "model": REQUESTS, "lane": REQUESTS, "replica": REPLICA_UP}
"""Labels that the viewer narrows the whole dashboard by, and the metric that knows their values."""


@dataclass(frozen=True, slots=True)
class Query:
    """One curve or column: an expression and what its series are called."""

    expression: str
    legend: str
    metrics: tuple[Definition, ...]

    def over(self, other: Self, legend: str = "") -> "Query":
        """Return the share that this makes of `other`; 0 where only `other` has series."""
        expression = f"({self.expression} or 0 * {other.expression}) / {other.expression}"
        return Query(expression, legend or self.legend, tuple(dict.fromkeys(self.metrics + other.metrics)))

    def named(self, legend: str) -> "Query":
        """Return the same query under another name."""
        return Query(self.expression, legend, self.metrics)

    def scaled(self, factor: str) -> "Query":
        """Return the query times or over something, such as `* 1e3`."""
        return Query(f"{self.expression} {factor}", self.legend, self.metrics)

    def top(self, count: int) -> "Query":
        """Return the `count` highest series only."""
        return Query(f"topk({count}, {self.expression})", self.legend, self.metrics)


def rate(metric: Definition, *by: str, **only: str) -> Query:
    """Return a counter's pace a second, summed by some of its labels."""
    _expect(metric, MetricKind.COUNTER)
    return _sum(metric, by, f"rate({_selector(metric, '', only)}[$__rate_interval])")


def increase(metric: Definition, *by: str, **only: str) -> Query:
    """Return how much a counter grew over the time shown, summed by some of its labels."""
    _expect(metric, MetricKind.COUNTER)
    return _sum(metric, by, f"increase({_selector(metric, '', only)}[$__range])")


def level(metric: Definition, *by: str, over: str = "sum") -> Query:
    """Return a gauge, put together over gateways by `over`."""
    _expect(metric, MetricKind.GAUGE)
    return _sum(metric, by, _selector(metric, "", {}), over)


def quantile(share: float, metric: Definition, *by: str) -> Query:
    """Return a histogram's quantile by some of its labels."""
    _expect(metric, MetricKind.HISTOGRAM)
    buckets = _sum(metric, (*by, "le"), f"rate({_selector(metric, '_bucket', {})}[$__rate_interval])")
    legend = " ".join((f"p{share * 100:g}", *map(_placeholder, by)))
    return Query(f"histogram_quantile({share}, {buckets.expression})", legend, (metric,))


def _sum(metric: Definition, by: tuple[str, ...], inner: str, over: str = "sum") -> Query:
    if unknown := set(by) - {*metric.labels, "le"}:
        raise ValueError(f"{metric.name} has no label {', '.join(sorted(unknown))}")
    grouping = f" by ({', '.join(by)})" if by else ""
    return Query(f"{over}{grouping} ({inner})", " ".join(map(_placeholder, by)) or metric.name, (metric,))


def _selector(metric: Definition, suffix: str, only: dict[str, str]) -> str:
    if unknown := set(only) - set(metric.labels):
        raise ValueError(f"{metric.name} has no label {', '.join(sorted(unknown))}")
    matchers = {label: f"${label}" for label in VARIABLES if label in metric.labels} | only
    inside = ",".join(f'{label}=~"{pattern}"' for label, pattern in matchers.items())
    return f"{metric.name}{suffix}{{{inside}}}" if inside else f"{metric.name}{suffix}"


def _expect(metric: Definition, kind: MetricKind) -> None:
    if metric.kind is not kind:
        raise ValueError(f"{metric.name} is a {metric.kind}, not a {kind}")


def _placeholder(label: str) -> str:
    return f"{{{{{label}}}}}"
