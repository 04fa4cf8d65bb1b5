"""`--from` and `--to`."""

from datetime import UTC, datetime, timedelta, timezone

import click
import pytest

from proxy.cli.period import Instant, period

NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
DAY_US = 86_400_000_000
NOVEMBER_US = 1_793_491_200_000_000


def test_a_day_is_its_first_moment_in_utc() -> None:
    assert Instant().convert("2026-11-01", None, None) == NOVEMBER_US


@pytest.mark.parametrize(
    "text",
    ["2026-11-01T02:00:00.000000+02:00", "2026-11-01T00:00:00Z", "2026-11-01t00:00:00z", "2026-10-31T19:00:00-05:00"],
)
def test_an_instant_says_its_offset(text: str) -> None:
    assert Instant().convert(text, None, None) == NOVEMBER_US


def test_an_instant_is_exact_to_the_microsecond() -> None:
    assert Instant().convert("2026-11-01T00:00:00.000001Z", None, None) == NOVEMBER_US + 1


@pytest.mark.parametrize(
    "text",
    ["", "today", "2026-13-01", "2026-02-30", "01.11.2026", "20261101", "2026-11", "2026-11-01T09:30:00", "1969-12-31",
     "2026-11-01T25:00:00Z", "2026-W45-1", "٢٠٢٦-11-01"],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="2026-11-01T09:30:00Z"):
        Instant().convert(text, None, None)


def test_by_default_the_month_so_far() -> None:
    begin, end = period(None, None, NOW)
    assert begin == NOVEMBER_US
    assert end == NOVEMBER_US + 20 * DAY_US + 45_000_000_000


def test_the_month_is_utcs_wherever_one_is() -> None:
    first_in_tokyo = datetime(2026, 12, 1, 3, tzinfo=timezone(timedelta(hours=9)))
    assert period(None, None, first_in_tokyo)[0] == NOVEMBER_US


@pytest.mark.parametrize("end_us", [NOVEMBER_US, NOVEMBER_US - 1])
def test_an_empty_period_is_refused(end_us: int) -> None:
    with pytest.raises(click.UsageError, match=r"--from \(2026-11-01T00:00:00Z\) must be before --to"):
        period(NOVEMBER_US, end_us, NOW)
