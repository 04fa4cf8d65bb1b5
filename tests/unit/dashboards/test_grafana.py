"""The JSON is what Grafana takes: a grid without gaps or overlaps, ids, letters, a source for everything."""

from itertools import combinations
from typing import Any

from dashboards.build import ROWS
from dashboards.grafana import Panel, Row, dashboard
from dashboards.promql import VARIABLES, level, rate
from proxy.observe import definitions as metric

BOARD = dashboard("tollway", "Tollway", ROWS)


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    down = one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]
    return across and down


def test_panels_lie_on_the_grid_side_by_side() -> None:
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert not any(overlap(one, other) for one, other in combinations(places, 2))


def test_ids_are_unique_and_targets_lettered() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    for panel in BOARD["panels"]:
        letters = [target["refId"] for target in panel.get("targets", ())]
        assert letters == sorted(set(letters))


def test_every_panel_is_described_by_its_metrics() -> None:
    for panel in BOARD["panels"]:
        assert panel["type"] == "row" or "`tollway_" in panel["description"]


def test_the_viewer_may_narrow_by_every_variable() -> None:
    names = [variable["name"] for variable in BOARD["templating"]["list"]]
    assert names == ["datasource", *VARIABLES]


def drawn(panel: Panel) -> dict[str, Any]:
    last: dict[str, Any] = dashboard("x", "x", [Row("r", (panel,))])["panels"][-1]
    return last


def test_a_number_asks_for_now_and_a_curve_for_the_range() -> None:
    number = drawn(Panel("n", "short", (level(metric.RESERVATIONS_OPEN),), kind="stat"))
    curve = drawn(Panel("c", "reqps", (rate(metric.REQUESTS),), stacked=True))
    assert number["targets"][0]["instant"]
    assert curve["targets"][0]["range"]
    assert curve["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"


def test_limits_become_thresholds() -> None:
    panel = drawn(Panel("c", "s", (level(metric.RESERVATIONS_OPEN),), limits=((5, "red"),)))
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1] == {"value": 5, "color": "red"}


def test_what_is_good_only_when_it_is_there_is_red_without_it() -> None:
    (up,) = [panel for panel in BOARD["panels"] if panel["title"].startswith("Up ")]
    steps = up["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps == [{"value": None, "color": "red"}, {"value": 1, "color": "green"}]
