"""The rules of the house that a machine can check: every source file has its test, every metric its place."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from proxy.observe.definitions import CATALOGUE, MetricKind
from tests.mentions import SAYING, exists, is_named, mentioned, prose_of_python

ROOT = Path(__file__).parents[2]
RULES = ROOT / "dashboards" / "rules"
TESTS = {path: path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py")) if path != Path(__file__)}
SOURCES = [
    path
    for folder in ("proxy", "engine", "policies", "dashboards")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)
]
SERIES = {
    metric.name + suffix: metric
    for metric in CATALOGUE
    for suffix in (("_bucket", "_sum", "_count") if metric.kind is MetricKind.HISTOGRAM else ("",))
}
_NAME = re.compile(r"(?<![\w:])tollway_\w+(?![\w:])")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dotted(source: Path) -> str:
    """Return a source file's name as it is imported."""
    parts = source.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def named_by(test: str) -> Iterator[str]:
    """Yield what a test imports, by both ways to import a module."""
    for node in ast.walk(ast.parse(test)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imported() -> set[str]:
    """Return what tests import; it takes a second or two to find out."""
    return {name for text in TESTS.values() for name in named_by(text)}


def test_a_public_class_name_stands_for_one_class() -> None:
    where: dict[str, list[str]] = {}
    for source in SOURCES:
        for node in ast.parse(source.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(relative(source))
    assert {name: places for name, places in where.items() if len(places) > 1} == {}


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_every_source_file_has_its_test(source: Path) -> None:
    mirror = ROOT / "tests" / "unit" / source.relative_to(ROOT).with_name(f"test_{source.name}")
    mentioned = any(re.search(rf"\b{re.escape(dotted(source))}\b", text) for text in TESTS.values())
    tested = mirror in TESTS or dotted(source) in imported() or mentioned
    assert tested, f"no test imports {dotted(source)}, and there is no {relative(mirror)}"


MODULES = {
    dotted(path): path for package in ("proxy", "engine", "policies") for path in sorted((ROOT / package).rglob("*.py"))
}


def of_ours(source: Path) -> set[str]:
    """Return the modules of ours that one imports: at its top, in its functions, and for its types alone."""
    named = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= whole if whole <= MODULES.keys() else {*whole, node.module}
    return named & MODULES.keys() - {dotted(source)}


IMPORTS = {module: of_ours(source) for module, source in MODULES.items()}


def circle(imports: Mapping[str, set[str]]) -> list[str]:
    """Return modules of which each imports the next, the first again at the end; none where there is no such circle."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])[::-1]
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(IMPORTS) == []


def test_no_rooms_of_the_proxy_import_each_other_in_a_circle() -> None:
    rooms = {path.parent.name for path in (ROOT / "proxy").glob("*/__init__.py")}
    between: dict[str, set[str]] = defaultdict(set)
    for module, names in IMPORTS.items():
        for name in names:
            here, there = (dots.split(".")[1] if dots.startswith("proxy.") else "" for dots in (module, name))
            if here != there and {here, there} <= rooms:
                between[here].add(there)
    assert between
    assert circle(between) == []


def rules_in(name: str) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load((RULES / name).read_text())["groups"]:
        yield from group["rules"]


def expressions() -> dict[str, str]:
    """Return every expression of the dashboard and of the rules by where it stands."""
    panels = orjson.loads((ROOT / "dashboards" / "tollway.json").read_bytes())["panels"]
    found = {f"panel {panel['title']}": " ".join(t["expr"] for t in panel.get("targets", ())) for panel in panels}
    for name in ("recording.yml", "alerts.yml"):
        found |= {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules_in(name)}
    return found


EXPRESSIONS = expressions()
ALERTS = {rule["alert"]: rule for rule in rules_in("alerts.yml")}
RECORDS = {rule["record"] for rule in rules_in("recording.yml")}


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_every_metric_is_seen_on_the_dashboard_or_by_a_rule(metric: Any) -> None:
    seen = {SERIES[name] for text in EXPRESSIONS.values() for name in _NAME.findall(text) if name in SERIES}
    assert metric in seen


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_expressions_name_only_metrics_that_exist(where: str) -> None:
    assert set(_NAME.findall(EXPRESSIONS[where])) <= set(SERIES)
    assert set(re.findall(r"\w+:tollway_\w+:\w+", EXPRESSIONS[where])) <= RECORDS


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_expressions_match_only_labels_that_their_metric_has(where: str) -> None:
    for name, matchers in re.findall(r"\b(tollway_\w+)\{([^}]*)\}", EXPRESSIONS[where]):
        assert set(re.findall(r"(\w+)=~?", matchers)) <= set(SERIES[name].labels)


def test_a_metric_is_written_in_one_source_file() -> None:
    for metric in CATALOGUE:
        written = [relative(path) for path in SOURCES if f'"{metric.name}"' in path.read_text()]
        assert written == ["proxy/observe/definitions.py"]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_fires_in_one_promtool_test_and_rests_in_another(alert: str) -> None:
    expected = [
        bool(case["exp_alerts"])
        for file in sorted((RULES / "tests").glob("*.yml"))
        for test in yaml.safe_load(file.read_text())["tests"]
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == alert
    ]
    assert set(expected) == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_how_bad_it_is_and_where_its_runbook_is(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"dashboards/runbook.md#{alert.lower()}"


def test_the_runbook_has_an_entry_for_each_alert_and_no_other() -> None:
    entries = re.split(r"^## ", (ROOT / "dashboards" / "runbook.md").read_text(), flags=re.MULTILINE)[1:]
    assert [entry.split("\n", 1)[0] for entry in entries] == list(ALERTS)
    for entry in entries:
        assert all(part in entry for part in ("**Means.**", "**Look first.**", "**Mend.**"))


def test_the_runbook_points_at_panels_that_exist() -> None:
    text = (ROOT / "dashboards" / "runbook.md").read_text()
    panels = orjson.loads((ROOT / "dashboards" / "tollway.json").read_bytes())["panels"]
    pointed = {" ".join(name.split()) for name in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", text)}
    assert pointed
    assert not [name for name in pointed if not any(panel["title"].startswith(name) for panel in panels)]


def test_what_is_mentioned_is_there() -> None:
    lost = [
        f"{at}: {mention}"
        for name in SAYING
        for at, mention in mentioned(name)
        if not (exists(mention, name) or is_named(mention))
    ]
    assert not lost


@pytest.mark.parametrize(
    ("mention", "where", "there"),
    [
        ("proxy/exchange.py", "README.md", True),
        ("exchange.py", "proxy/stages/relay.py", True),
        ("relay.py", "proxy/exchange.py", False),
        ("lib/numbers.lua", "proxy/store/lua/quota/settle.lua", True),
        ("proxy/no_such_room/", "README.md", False),
        ("proxy/storage.py", "proxy/app.py", False),
    ],
)
def test_a_path_is_told_from_the_root_or_from_above(mention: str, where: str, *, there: bool) -> None:
    assert exists(mention, where) is there


def test_a_dotted_name_is_looked_up_in_its_module() -> None:
    assert is_named("proxy.billing.record.ExchangeRecord")
    assert is_named("engine.runtime")
    assert not is_named("proxy.billing.record.Nobody")
    assert not is_named("proxy.billing.nothing")


def test_comments_docstrings_and_documents_are_read() -> None:
    assert [line for _, line in prose_of_python('"""One."""\nx = "no"  # two\n"""Three\nfour"""')] == [
        '"""One."""',
        "# two",
        '"""Three',
        'four"""',
    ]
    assert {"README.md", "Makefile", ".ci/run", "proxy/exchange.py", "proxy/store/lua/lib/numbers.lua"} <= set(SAYING)
