"""What is shown and kept: tables for the terminal and for the README, every round as JSON, a chart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import orjson

from tests.bench.chart import Panel, svg
from tests.bench.figures import DIRECT, Round, ratio, ratios, total, typical
from tests.bench.workloads import PACED

OURS = "tollway"
ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """One figure in a table."""

    title: str
    figure: str
    digits: int = 0
    absent: str = ABSENT


@dataclass(frozen=True, slots=True)
class Shown:
    """A table of figures, and the names of those that count its errors, which are summed."""

    columns: Sequence[Column]
    errors: Sequence[str]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the bench, as it is told."""

    when: str
    machine: Mapping[str, str]
    method: str
    """Rounds and seconds."""
    versions: Mapping[str, str]
    jobs: Mapping[str, str]
    """What each candidate does, in the order of the tables."""
    skipped: Mapping[str, str]
    rounds: Sequence[Round]


TABLES: Mapping[str, Shown] = {
    "JSON answers, 64 connections": Shown(
        (
            Column("requests/s", "json_rps"),
            Column("CPU µs/request", "json_cpu_us", 1),
            Column("Redis µs/request", "json_redis_us", 1),
            Column("p50 ms", "json_p50_ms", 2),
            Column("p99 ms", "json_p99_ms", 2),
            Column("added p50 µs at 1,000/s", "added_open_p50_us", absent="cannot"),
            Column("added p99 µs at 1,000/s", "added_open_p99_us", absent="cannot"),
        ),
        ("json_errors", "open_errors"),
    ),
    "Streams": Shown(
        (
            Column("unpaced chunks/s", "chunk_cps"),
            Column("CPU µs/chunk", "chunk_cpu_us", 1),
            *(Column(f"p99 gap ms, {streams:,} paced", f"paced_{streams}_gap_ms", 1) for streams in PACED),
            *(Column(f"pace kept, {streams:,}", f"paced_{streams}_kept", 2) for streams in PACED[1:]),
            Column("MB idle", "idle_mb"),
            Column("MB, 512 streams", "streams_mb"),
        ),
        ("chunk_errors", *(f"paced_{streams}_errors" for streams in PACED)),
    ),
}
COMPARED = {
    "requests/s": "json_rps",
    "CPU per request": "json_cpu_us",
    "CPU per chunk": "chunk_cpu_us",
    "added p50": "added_open_p50_us",
    "MB, 512 streams": "streams_mb",
}
CHARTED = {
    "JSON requests/s (more is better)": "json_rps",
    "CPU µs per JSON request (less is better)": "json_cpu_us",
    "CPU µs per streamed chunk (less is better)": "chunk_cpu_us",
    "added p50 at 1,000 requests/s, µs (less is better)": "added_open_p50_us",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of which the first is the head."""

    title: str
    rows: Sequence[Sequence[str]]
    words: bool = False
    """Whether its cells are words, not figures."""


def tables(run: Run) -> list[Table]:
    """Return every table of a run, ready to be laid out."""
    known = [[name, run.versions[name], job] for name, job in run.jobs.items()]
    who = Table("Candidates", [["", "version", "what it does with a request"], *known], words=True)
    return [who, *(Table(title, _rows(run, shown)) for title, shown in TABLES.items()), *_ratios(run)]


def pairs(run: Run, rival: str) -> str:
    """Return how much of each figure ours has for one that the rival has, pair by pair: the median, least and most."""
    lines = [f"{OURS} / {rival}, of {len(run.rounds)} pairs: median (least to most)"]
    for title, figure in COMPARED.items():
        found = ratios(run.rounds, figure, OURS, rival)
        if found:
            lines.append(f"  {title:<18}{median(found):>6.3f} ({found[0]:.3f} to {found[-1]:.3f})")
    return "\n".join(lines)


def terminal(run: Run) -> str:
    """Return the tables with blanks between the columns."""
    return "\n".join(f"\n{table.title}\n{_aligned(table)}" for table in tables(run)) + "\n"


def markdown(run: Run) -> str:
    """Return what a README needs: the tables, the machine, the versions, the date."""
    machine = ", ".join(f"{name} {value}" for name, value in run.machine.items())
    skipped = "".join(f"\nNot measured: {name}, {why}." for name, why in run.skipped.items())
    parts = [f"Measured {run.when}: {run.method}. {machine}.{skipped}"]
    for table in tables(run):
        head, *rows = table.rows
        lines = [head, ["---", *("---" if table.words else "---:" for _ in head[1:])], *rows]
        parts.append(f"**{table.title}**\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    return "\n\n".join(parts) + "\n"


def chart(run: Run) -> str:
    """Return the bars of what is compared most."""
    panels = []
    for title, figure in CHARTED.items():
        found = [(name, typical(run.rounds, name, figure)) for name in run.jobs if name != DIRECT]
        panels.append(Panel(title, [(name, value) for name, value in found if value is not None], OURS))
    return svg(f"Tollway beside proxies that only route, {run.when[:10]}", panels)


def write(run: Run, folder: Path) -> None:
    """Keep a run: all its rounds, the tables, the chart."""
    folder.mkdir(parents=True)
    names = {column.figure for shown in TABLES.values() for column in shown.columns}
    medians = {
        candidate: {
            name: value for name in sorted(names) if (value := typical(run.rounds, candidate, name)) is not None
        }
        for candidate in run.jobs
    }
    (folder / "results.json").write_bytes(orjson.dumps({"run": run, "medians": medians}, option=orjson.OPT_INDENT_2))
    (folder / "table.md").write_text(markdown(run))
    (folder / "chart.svg").write_text(chart(run))


def _rows(run: Run, shown: Shown) -> list[list[str]]:
    head = ["", *(column.title for column in shown.columns), "errors"]
    rows = [
        [name, *(_cell(run, name, column) for column in shown.columns), f"{total(run.rounds, name, shown.errors):,.0f}"]
        for name in run.jobs
    ]
    return [head, *rows]


def _cell(run: Run, name: str, column: Column) -> str:
    value = typical(run.rounds, name, column.figure)
    if value is not None:
        return f"{value:,.{column.digits}f}"
    if not any(name in played for played in run.rounds):
        return "failed"
    return column.absent if DIRECT in run.jobs else ABSENT


def _ratios(run: Run) -> list[Table]:
    """Return what Tollway has for each one of every other's; nothing where it was not measured."""
    others = [name for name in run.jobs if name != OURS]
    if OURS not in run.jobs or not others:
        return []
    rows = [[f"Tollway / {name}", *(_times(run, figure, name) for figure in COMPARED.values())] for name in others]
    return [Table("Tollway's figure for each one of theirs, median over the rounds", [["", *COMPARED], *rows])]


def _times(run: Run, figure: str, rival: str) -> str:
    value = ratio(run.rounds, figure, OURS, rival)
    return ABSENT if value is None else f"{value:.2f}"


def _aligned(table: Table) -> str:
    widths = [max(map(len, column)) for column in zip(*table.rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if table.words or n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return "\n".join(map(line, table.rows))
