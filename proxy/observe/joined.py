"""
One exposition of several workers': what a scrape of the whole gateway says.

Rules:
- Counters and histograms are summed, those of workers that are gone too: a counter never falls. A gauge is joined as
  its definition says, and goes with its worker.
- The cap on user series holds for the whole: the first users keep series of their own, all others of a tenant are
  summed in `user="other"`, so that the sum over users stays exact.

A series is known by its text: workers run the same code, which writes the same labels in the same order.
"""

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prometheus_client.utils import floatToGoString

from proxy.observe.definitions import CATALOGUE, USER_TOKENS, Joined, MetricKind

_GAUGES = {metric.name: metric.joined for metric in CATALOGUE} | {"process_start_time_seconds": Joined.MIN}
_JOIN: dict[Joined, Callable[[float, float], float]] = {Joined.SUM: operator.add, Joined.MIN: min, Joined.MAX: max}
_USER = ',user="'
_OTHER = ',user="other"}'


@dataclass(slots=True)
class _Family:
    """One metric: the lines that describe it, and the value of each of its series."""

    kind: str
    head: str
    series: dict[str, float] = field(default_factory=dict)


_Families = dict[str, _Family]


class JoinedExposition:
    """
    The sum over all workers, those that are gone among them.

    Bounds: of the gone no more series are kept than of the living: labels are bounded, and users by `user_series_max`.
    """

    def __init__(self, user_series_max: int) -> None:
        self.user_series_max = user_series_max
        self._users: set[str] = set()
        self._gone: _Families = {}

    def ended(self, text: str) -> None:
        """Keep what a worker had counted that is gone."""
        counted = {name: family for name, family in _read(text).items() if family.kind != MetricKind.GAUGE}
        self._gone = self._joined([self._gone, counted])

    def forget(self, place: tuple[str, str]) -> None:
        """Leave out what the gone had counted of a replica, by its model's name and its own."""
        model, replica = (f'="{_escaped(name)}"' for name in place)
        for family in self._gone.values():
            for series in [each for each in family.series if f"model{model}" in each and f"replica{replica}" in each]:
                del family.series[series]

    def over(self, texts: Iterable[str]) -> str:
        """Return the exposition of the living, and of what the gone had counted."""
        return _written(self._joined([self._gone, *map(_read, texts)]))

    def _joined(self, parts: Iterable[_Families]) -> _Families:
        whole: _Families = {}
        for part in parts:
            for name, family in part.items():
                known = whole.setdefault(name, _Family(family.kind, family.head))
                self._add(known.series, name, family)
        return whole

    def _add(self, series: dict[str, float], name: str, family: _Family) -> None:
        join = _JOIN[_GAUGES.get(name, Joined.SUM)]
        for text, value in family.series.items():
            key = self._capped(text) if name == USER_TOKENS.name else text
            series[key] = join(series[key], value) if key in series else value

    def _capped(self, series: str) -> str:
        """Return the series that a user's tokens are counted in; the labels stand in the order of the alphabet."""
        rest, _, user = series.partition(_USER)
        if user == _OTHER.removeprefix(_USER):
            return series
        whose = series.partition(",tenant=")[2]
        if whose not in self._users:
            if len(self._users) >= self.user_series_max:
                return rest + _OTHER
            self._users.add(whose)
        return series


def _read(text: str) -> _Families:
    families: _Families = {}
    described = ""
    family = _Family("", "")
    for line in text.split("\n"):
        if line.startswith("# HELP "):
            described = line
        elif line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            family = families[name] = _Family(kind, f"{described}\n{line}\n")
        elif line:
            series, _, value = line.rpartition(" ")
            family.series[series] = float(value)
    return families


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"")


def _written(families: _Families) -> str:
    return "".join(
        family.head + "".join(f"{series} {_number(value)}\n" for series, value in family.series.items())
        for family in families.values()
    )


def _number(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text
