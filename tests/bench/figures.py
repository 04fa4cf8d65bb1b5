"""From rounds to what is told: medians, ratios and what a candidate adds, each from figures of the same round."""

from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import median

from tests.bench.workloads import Figures

Round = Mapping[str, Figures]
"""Each candidate's figures, by its name."""

DIRECT = "direct"


def with_added(played: Round) -> Round:
    """Return a round with what each candidate adds to the latencies that `direct` had in it."""
    base = played.get(DIRECT, {})
    return {name: {**figures, **_added(figures, base)} for name, figures in played.items()}


def _added(figures: Figures, base: Figures) -> Figures:
    names = ("open_p50_us", "open_p99_us")
    return {f"added_{name}": figures[name] - base[name] for name in names if name in figures and name in base}


def typical(rounds: Sequence[Round], candidate: str, figure: str) -> float | None:
    """Return the median over the rounds, or None where most of them have no such figure."""
    return _median(rounds, lambda played: played.get(candidate, {}).get(figure))


def total(rounds: Sequence[Round], candidate: str, figures: Collection[str]) -> float:
    """Return the sum of these figures over all rounds."""
    return sum(played.get(candidate, {}).get(figure, 0) for played in rounds for figure in figures)


def ratio(rounds: Sequence[Round], figure: str, candidate: str, rival: str) -> float | None:
    """Return the median of what `candidate` has for each one that `rival` has in the same round."""
    return _median(rounds, lambda played: _ratio(played, figure, candidate, rival))


def ratios(rounds: Sequence[Round], figure: str, candidate: str, rival: str) -> list[float]:
    """Return that of every round that has both, the least first."""
    found = (_ratio(played, figure, candidate, rival) for played in rounds)
    return sorted(each for each in found if each is not None)


def _ratio(played: Round, figure: str, candidate: str, rival: str) -> float | None:
    ours, theirs = (played.get(name, {}).get(figure) for name in (candidate, rival))
    return ours / theirs if ours is not None and theirs else None


def _median(rounds: Sequence[Round], of: Callable[[Round], float | None]) -> float | None:
    found = [value for played in rounds if (value := of(played)) is not None]
    return median(found) if 2 * len(found) > len(rounds) else None
