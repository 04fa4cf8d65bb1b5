"""
A report as people and programs read it: a table, CSV, JSON.

Amounts are decimals with all their digits, six behind the point or up to twelve: nothing is rounded. In JSON they are
strings, because a program's numbers may be doubles, which do not hold them.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from policies.pricing import decimal
from proxy.billing.reports import Report, UsageRow, UsageSums

WIDTH_MIN = 80
_NAME_WIDTH_MIN = 8
_NAME_WIDTH_MAX = 128
_NO_CURRENCY = "---"
_GAP = 2
"""Between two columns: the padding and the box."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTS = tuple(field.name for field in fields(UsageSums) if field.name != "charge_picos")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def as_json(report: Report, from_us: int, to_us: int) -> str:
    """Return the report with its totals and its half-open period as one JSON object."""
    whole = {
        "object": "usage",
        "from": rfc3339(from_us),
        "to": rfc3339(to_us),
        "group_by": report.group_by,
        "rows": [_fields(report, row) for row in report.rows()],
        "totals": [_fields(report, row) for row in report.totals()],
    }
    return orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def as_csv(report: Report) -> str:
    """
    Return the report as RFC 4180 with a header and no totals.

    A name that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    written = io.StringIO()
    lines = csv.writer(written)
    lines.writerow((*report.group_by, *_COUNTS, "charge", "currency"))
    for row in report.rows():
        lines.writerow((*map(_harmless, row.names), *_amounts(row).values()))
    return written.getvalue()


def as_table(report: Report, from_us: int, to_us: int, console: Console) -> None:
    """Print the report; a narrow terminal breaks long names, a file does not, and a number is never cut."""
    period = f"Usage from {_short(from_us)} to {_short(to_us)} (UTC, the end excluded)"
    rows = list(report.rows())
    if not rows:
        console.print(Text(f"{period}: none."))
        return
    table = _table(report, rows, _NAME_WIDTH_MIN if console.is_terminal else _NAME_WIDTH_MAX)
    needed = sum((column.min_width or 0) + _GAP for column in table.columns) + 1
    console.width = max(console.width, WIDTH_MIN, needed)
    console.print(Group(Text(period), table))


def rfc3339(instant_us: int) -> str:
    """Return microseconds since the epoch as RFC 3339 in UTC."""
    return (_EPOCH + timedelta(microseconds=instant_us)).isoformat().replace("+00:00", "Z")


def _table(report: Report, rows: list[UsageRow], name_width: int) -> Table:
    places = max(len(decimal(row.sums.charge_picos).partition(".")[2]) for row in rows)
    lines = [(*map(_printable, row.names), *_numbers(row, places)) for row in rows]
    blank = [""] * (len(report.group_by) - 1)
    totals = [("total", *blank, *_numbers(row, places)) for row in report.totals()]
    titles = (*report.group_by, "requests", "prompt", "cached", "completion", "charge")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title, *cells in zip(titles, *lines, *totals, strict=True):
        widest = max(map(len, (title, *cells)))
        if title in report.group_by:
            table.add_column(title, overflow="fold", min_width=min(widest, name_width))
        else:
            table.add_column(title, justify="right", no_wrap=True, min_width=widest)
    for line in lines:
        table.add_row(*map(Text, line))
    table.add_section()
    for line in totals:
        table.add_row(*map(Text, line), style="bold")
    return table


def _numbers(row: UsageRow, places: int) -> Iterator[str]:
    """Yield the cells behind the names; amounts have so many places behind the point, one below the other."""
    sums = row.sums
    yield from (f"{n:,}" for n in (sums.requests, sums.prompt_tokens, sums.cached_tokens, sums.completion_tokens))
    whole, _, part = decimal(abs(sums.charge_picos)).partition(".")
    sign = "-" if sums.charge_picos < 0 else ""
    yield f"{sign}{int(whole):,}.{part:0<{places}} {row.currency or _NO_CURRENCY}"


def _fields(report: Report, row: UsageRow) -> dict[str, Any]:
    return dict(zip(report.group_by, row.names, strict=False)) | _amounts(row)


def _amounts(row: UsageRow) -> dict[str, Any]:
    """Return what programs read of a line behind its names."""
    counts = {name: getattr(row.sums, name) for name in _COUNTS}
    return counts | {"charge": decimal(row.sums.charge_picos), "currency": row.currency}


def _harmless(name: str) -> str:
    return f"'{name}" if name.startswith(_FORMULA_STARTS) else name


def _printable(name: str) -> str:
    """Return a name that cannot steer a terminal."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _short(instant_us: int) -> str:
    text = rfc3339(instant_us).partition(".")[0].removesuffix("Z")
    return text.replace("T", " ").removesuffix(" 00:00:00")
