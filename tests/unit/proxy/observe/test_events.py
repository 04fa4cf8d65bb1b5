"""Every event stands in one table, with the fields of its line; no field that a call adds is lost."""

import ast
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from proxy.billing.record import CLIENT_CLOSED, ExchangeRecord
from proxy.errors import Code
from proxy.observe import logs
from proxy.observe.definitions import CATALOGUE
from proxy.observe.events import EVENTS, FIELDS

ROOT = Path(__file__).parents[4]
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
_NAME = re.compile(r"`([a-z]+(?:_[a-z]+)+)`")


class Call(NamedTuple):
    """A place that logs."""

    where: str
    level: str
    event: str | None
    """None where it is no literal."""
    fields: frozenset[str]


def calls(source: str, where: str) -> Iterator[Call]:
    """Yield every call of a logger in a source file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of, level = node.func.value, node.func.attr
            if isinstance(of, ast.Name) and of.id == "_log":
                yield Call(f"{where}:{node.lineno}", level, _event(node), frozenset(_fields(node)))


def _event(node: ast.Call) -> str | None:
    match node.args:
        case [ast.Constant(value=str(event))]:
            return event
    return None


def _fields(node: ast.Call) -> Iterator[str]:
    for keyword in node.keywords:
        if keyword.arg == "extra":
            assert isinstance(keyword.value, ast.Dict), "what a line adds is written where it is logged"
            for key in keyword.value.keys:
                assert isinstance(key, ast.Constant)
                yield str(key.value)


FILES = [path for folder in ("proxy", "engine", "policies") for path in sorted((ROOT / folder).rglob("*.py"))]
CALLS = [call for path in FILES for call in calls(path.read_text(), path.relative_to(ROOT).as_posix())]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.where)
def test_a_line_is_a_known_event_of_its_level_with_its_fields_and_no_other(call: Call) -> None:
    assert call.event is not None, "an event is one literal: what is told of it are fields"
    event = EVENTS[call.event]
    assert LEVELS[call.level] == event.level
    assert call.fields <= event.fields, "in the log these would be missing"


def test_every_event_and_every_field_of_it_is_logged_somewhere() -> None:
    logged: dict[str, set[str]] = {}
    for call in CALLS:
        logged.setdefault(call.event or "", set()).update(call.fields)
    of_records = {"exchange", "correction"}
    assert {name: set(event.fields) for name, event in EVENTS.items() if name not in of_records} == logged


def test_an_event_is_a_few_words_in_lower_case() -> None:
    assert not [name for name in EVENTS if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)]
    assert all(event.says for event in EVENTS.values())


def test_every_field_is_explained_and_none_is_what_logging_itself_calls_so() -> None:
    used = {name for event in EVENTS.values() for name in event.fields if event.fields <= set(FIELDS)}
    assert used == set(FIELDS)
    assert not set(FIELDS) & set(vars(logging.makeLogRecord({})))


def test_nothing_logs_past_the_table() -> None:
    """Loggers are called `_log`, so that the walk above finds them; `logs` alone has others."""
    for path in FILES:
        if path.name != "logs.py":
            loggers = [line for line in path.read_text().splitlines() if "getLogger(" in line]
            assert loggers in ([], ["_log = logging.getLogger(__name__)"]), path


@pytest.mark.parametrize("event", [name for name in EVENTS if name not in ("exchange", "correction")])
def test_a_line_has_all_that_its_event_may_have(event: str) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logs.JsonFormatter())
    fields = dict.fromkeys(EVENTS[event].fields, "told")
    handler.handle(logging.makeLogRecord({"msg": event, "levelno": logging.ERROR} | fields))
    line = orjson.loads(written.getvalue())
    assert {name: line[name] for name in fields} == fields


OTHERS_WORDS = {"aof_last_write_status", "stop_grace_period"}
"""Redis' and compose's."""


@pytest.mark.parametrize("name", ["dashboards/runbook.md", "deploy/README.md"])
def test_what_a_guide_names_exists(name: str) -> None:
    """A name in a guide is an event, a code, an outcome, a field of a record, a metric, or a field of the config."""
    named = set(_NAME.findall((ROOT / name).read_text()))
    config = set(re.findall(r"\w+", (ROOT / "deploy" / "config-reference.md").read_text()))
    metrics = {metric.name for metric in CATALOGUE}
    known = {*EVENTS, *Code, CLIENT_CLOSED, *ExchangeRecord._fields, *metrics, *config, *OTHERS_WORDS}
    assert named & set(EVENTS)
    assert not named - known
