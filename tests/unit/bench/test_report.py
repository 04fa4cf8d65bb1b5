from pathlib import Path
from xml.etree import ElementTree

import orjson

from tests.bench.report import Run, chart, markdown, pairs, terminal, write

RUN = Run(
    when="2026-11-21 09:00 UTC",
    machine={"cpu": "Some CPU", "cores": "2"},
    method="medians of 1 rounds of 2 s each",
    versions={"direct": "", "slow": "1.0", "tollway": "0.1", "dead": "2.0"},
    jobs={"direct": "nothing", "slow": "routes", "tollway": "the whole job", "dead": "routes"},
    skipped={"nginx": "not installed"},
    rounds=[
        {
            "direct": {"json_rps": 70_000.0, "added_open_p50_us": 0.0},
            "slow": {"json_rps": 5_000.0, "json_cpu_us": 200.0, "json_errors": 3.0},
            "tollway": {"json_rps": 10_000.0, "json_cpu_us": 100.0, "added_open_p50_us": 300.0},
        }
    ],
)


def row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name) and "," in line)


def test_the_tables_show_what_was_measured_and_what_could_not_be() -> None:
    shown = terminal(RUN)
    assert "10,000" in row(shown, "tollway")
    assert "cannot" in row(shown, "slow")
    assert row(shown, "slow").split()[-1] == "3"
    assert "failed" in shown


def test_ratios_are_ours_for_each_of_theirs() -> None:
    ratios = next(line for line in markdown(RUN).splitlines() if "Tollway / slow" in line)
    assert ratios.split(" | ")[1:3] == ["2.00", "0.50"]


def test_pairs_are_told_with_their_spread() -> None:
    told = pairs(RUN, "slow").splitlines()
    assert told[0].startswith("tollway / slow, of 1 pairs")
    assert "2.000 (2.000 to 2.000)" in told[1]
    assert "0.500 (0.500 to 0.500)" in told[2]


def test_the_readmes_tables_have_as_many_cells_in_every_row() -> None:
    blocks = [block.splitlines() for block in markdown(RUN).split("\n\n") if block.startswith("|")]
    assert blocks
    assert all(len({line.count("|") for line in block}) == 1 for block in blocks)
    assert "Not measured: nginx, not installed." in markdown(RUN)


def test_the_chart_is_a_picture_with_a_bar_for_each_figure() -> None:
    root = ElementTree.fromstring(chart(RUN))
    bars = [element for element in root if element.tag.endswith("rect")]
    assert len(bars) == 1 + 2 + 2 + 1
    assert max(float(bar.attrib["x"]) + float(bar.attrib["width"]) for bar in bars[1:]) < float(bars[0].attrib["width"])


def test_every_round_is_kept(tmp_path: Path) -> None:
    write(RUN, tmp_path / "run")
    kept = orjson.loads((tmp_path / "run" / "results.json").read_bytes())
    assert kept["run"]["rounds"] == [dict(played) for played in RUN.rounds]
    assert kept["medians"]["tollway"]["json_rps"] == 10_000
    assert {file.name for file in (tmp_path / "run").iterdir()} == {"results.json", "table.md", "chart.svg"}
