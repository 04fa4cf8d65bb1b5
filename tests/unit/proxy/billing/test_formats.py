"""The report as a table, as CSV and as JSON."""

import csv
import io

import orjson
import pytest
from rich.console import Console

from proxy.billing.entry import Entry
from proxy.billing.formats import as_csv, as_json, as_table
from proxy.billing.reports import Report
from tests.records import RECORD

NOVEMBER_US = 1_793_491_200_000_000
DECEMBER_US = 1_796_083_200_000_000


def report_of(*names: str, group_by: tuple[str, ...] = ("tenant", "user", "model"), **changes: int | str) -> Report:
    report = Report(group_by)
    for user in names:
        report.add(Entry("1-0", "FINAL", RECORD._replace(user=user, **changes)))  # type: ignore[arg-type]
    return report


def table(report: Report, width: int = 80, *, terminal: bool = False) -> list[str]:
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=terminal, no_color=True)
    as_table(report, NOVEMBER_US, DECEMBER_US, console)
    return [line.rstrip() for line in written.getvalue().splitlines()]


def test_csv_has_a_header_and_all_digits_of_a_charge() -> None:
    assert as_csv(report_of("ada")).splitlines() == [
        "tenant,user,model,requests,prompt_tokens,cached_tokens,completion_tokens,charge,currency",
        "acme,ada,demo,1,120,32,11,0.000777,USD",
    ]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_disarms_what_a_spreadsheet_would_run(start: str) -> None:
    written = as_csv(report_of(f'{start}HYPERLINK("http://x")'))
    [row] = csv.DictReader(io.StringIO(written, newline=""))
    assert row["user"] == f'\'{start}HYPERLINK("http://x")'


def test_csv_leaves_negative_corrections_numbers() -> None:
    written = as_csv(report_of("ada", charge_picos=-5))
    assert written.splitlines()[1].endswith(",-0.000000000005,USD")


def test_csv_keeps_commas_quotes_and_line_ends_in_names() -> None:
    name = 'a, "b"\nc'
    [row] = csv.DictReader(io.StringIO(as_csv(report_of(name)), newline=""))
    assert row["user"] == name


def test_json_tells_the_period_the_rows_and_the_totals() -> None:
    told = orjson.loads(as_json(report_of("ada", "bob", group_by=("user",)), NOVEMBER_US, DECEMBER_US))
    sums = {"requests": 1, "prompt_tokens": 120, "cached_tokens": 32, "completion_tokens": 11}
    one, two = {"charge": "0.000777", "currency": "USD"}, {"charge": "0.001554", "currency": "USD"}
    assert told == {
        "object": "usage",
        "from": "2026-11-01T00:00:00Z",
        "to": "2026-12-01T00:00:00Z",
        "group_by": ["user"],
        "rows": [{"user": "ada", **sums, **one}, {"user": "bob", **sums, **one}],
        "totals": [{name: 2 * value for name, value in sums.items()} | two],
    }


def test_the_table_fits_eighty_columns_and_aligns_its_numbers() -> None:
    lines = table(report_of("ada", "grace", prompt_tokens=12_345, charge_picos=1_234_567_890_000_000))
    assert lines[0] == "Usage from 2026-11-01 to 2026-12-01 (UTC, the end excluded)"
    assert all(len(line) <= 80 for line in lines)
    money = [line for line in lines if line.endswith(" 1,234.567890 USD")]
    assert len(money) == 2
    assert len({len(line) for line in lines if line.endswith("USD")}) == 1
    assert len({line.index("12,345") for line in money}) == 1


def test_the_table_ends_with_a_total_for_each_currency() -> None:
    report = report_of("ada", "bob")
    report.add(Entry("1-0", "FINAL", RECORD._replace(currency="EUR")))
    totals = [line.split() for line in table(report) if line.strip().startswith("total")]
    assert totals == [
        ["total", "1", "120", "32", "11", "0.000777", "EUR"],
        ["total", "2", "240", "64", "22", "0.001554", "USD"],
    ]


def test_a_number_is_never_cut_however_narrow_the_terminal() -> None:
    text = "\n".join(table(report_of("ada", prompt_tokens=123_456_789_012_345, charge_picos=10**24), width=20))
    assert "123,456,789,012,345" in text
    assert "1,000,000,000,000.000000" in text


def test_the_cents_of_a_cent_stand_one_below_the_other() -> None:
    report = report_of("ada", charge_picos=40_000)
    report.add(Entry("1-0", "FINAL", RECORD._replace(user="bob", charge_picos=1_500_000_000_000)))
    charges = [line.split()[-2] for line in table(report) if line.endswith("USD")]
    assert charges == ["0.00000004", "1.50000000", "1.50000004"]


def test_what_has_no_price_has_no_currency() -> None:
    assert table(report_of("ada", charge_picos=0, currency=""))[4].endswith(" 0.000000 ---")


def test_a_correction_below_zero_shows_its_sign() -> None:
    assert "-0.000077" in "\n".join(table(report_of("ada", charge_picos=-77_000_000)))


def test_a_terminal_breaks_a_long_name_and_a_file_keeps_it_whole() -> None:
    name = "z" * 60
    broken = table(report_of(name), terminal=True)
    assert all(len(line) <= 80 for line in broken if "z" in line)
    assert "".join(broken).count("z") == 60
    assert any(name in line for line in table(report_of(name)))


def test_a_name_can_neither_steer_the_terminal_nor_style_the_table() -> None:
    text = "\n".join(table(report_of("\x1b[2J", "[red]x")))
    assert "\x1b" not in text
    assert r"\x1b[2J" in text
    assert "[red]x" in text


def test_no_usage_is_said_in_words() -> None:
    assert table(Report()) == ["Usage from 2026-11-01 to 2026-12-01 (UTC, the end excluded): none."]
