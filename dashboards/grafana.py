"""Grafana's JSON: rows of panels laid out on its grid of 24 columns. Knows no metric."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.promql import VARIABLES, Query

_COLUMNS = 24
_HEIGHT = 8
_SCHEMA = 39
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture; its description is what its metrics say of themselves."""

    title: str
    unit: str
    """Grafana's id of a unit: `s`, `reqps`, `percentunit`, `short`."""
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    stacked: bool = False
    limits: tuple[tuple[float, str], ...] = ()
    """Values from which on a line or a number takes a colour."""
    base: str = "green"
    """The colour below the first of them."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side that answer one question."""

    title: str
    panels: tuple[Panel, ...]


def dashboard(uid: str, title: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Return a whole dashboard."""
    return {
        "uid": uid,
        "title": title,
        "tags": ["tollway", "llm"],
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": _SCHEMA,
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": list(_variables())},
        "panels": list(_laid_out(rows)),
    }


def _variables() -> Iterable[dict[str, Any]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    for label, metric in VARIABLES.items():
        query = f"label_values({metric.name}, {label})"
        yield {
            "name": label,
            "label": label.capitalize(),
            "type": "query",
            "datasource": _SOURCE,
            "definition": query,
            "query": {"query": query, "refId": label},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"selected": True, "text": "All", "value": "$__all"},
        }


def _laid_out(rows: Iterable[Row]) -> Iterable[dict[str, Any]]:
    number = top = 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        top += 1
        width = _COLUMNS // len(row.panels)
        for column, panel in enumerate(row.panels):
            number += 1
            place = {"x": column * width, "y": top, "w": width, "h": _HEIGHT}
            yield {"id": number, "gridPos": place, **_drawn(panel)}
        top += _HEIGHT


def _drawn(panel: Panel) -> dict[str, Any]:
    metrics = dict.fromkeys(metric for query in panel.queries for metric in query.metrics)
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel)}
    drawn: dict[str, Any] = {
        "type": panel.kind,
        "title": panel.title,
        "description": "\n\n".join(f"`{metric.name}`: {metric.help}" for metric in metrics),
        "datasource": _SOURCE,
        "targets": [_target(panel, number, query) for number, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        line = {"mode": "dashed" if panel.limits else "off"}
        fill = 30 if panel.stacked else 5
        defaults |= {"min": 0, "custom": {"fillOpacity": fill, "stacking": stacking, "thresholdsStyle": line}}
        drawn["options"] = {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "table":
        drawn["transformations"] = [{"id": "merge", "options": {}}]
    return drawn


def _thresholds(panel: Panel) -> dict[str, Any]:
    steps = [{"value": None, "color": panel.base}, *({"value": value, "color": color} for value, color in panel.limits)]
    return {"mode": "absolute", "steps": steps}


def _target(panel: Panel, number: int, query: Query) -> dict[str, Any]:
    at_once = panel.kind in ("stat", "table")
    return {
        "refId": chr(ord("A") + number),
        "datasource": _SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "instant": at_once,
        "range": not at_once,
        "format": "table" if panel.kind == "table" else "time_series",
    }
