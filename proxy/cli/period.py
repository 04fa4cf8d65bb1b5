"""`--from` and `--to`: a half-open period of UTC days or instants."""

import re
from datetime import UTC, datetime, timedelta

import click

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(click.ParamType[int]):
    """`2026-11-01` (that day's first moment in UTC) or an RFC 3339 instant, in microseconds since the epoch."""

    name = "date"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return microseconds since the epoch."""
        if isinstance(value, int):
            return value
        try:
            return _micros(_parsed(value.strip().upper()))
        except ValueError:
            hint = "a day such as 2026-11-01 or an instant such as 2026-11-01T09:30:00Z, from 1970 on"
            self.fail(f"{value!r} is not {hint}", param, ctx)


from_option = click.option(
    "--from",
    "from_us",
    type=Instant(),
    metavar="DATE",
    help="First day or instant (UTC). Default: the start of this month.",
)
"""Gives a command its `from_us: int | None`."""

to_option = click.option(
    "--to", "to_us", type=Instant(), metavar="DATE", help="First day or instant left out (UTC). Default: now."
)
"""Gives a command its `to_us: int | None`."""


def period(from_us: int | None, to_us: int | None, now: datetime) -> tuple[int, int]:
    """
    Return [from, to) with what was not given filled in.

    Units: microseconds since the epoch.
    Raises: click.UsageError where nothing lies between them.
    """
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    begin = _micros(month) if from_us is None else from_us
    end = _micros(now) if to_us is None else to_us
    if begin >= end:
        raise click.UsageError(f"--from ({_told(begin)}) must be before --to ({_told(end)}), which is left out")
    return begin, end


def _parsed(text: str) -> datetime:
    if _DAY.fullmatch(text):
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    if _INSTANT.fullmatch(text):
        return datetime.fromisoformat(text)
    raise ValueError(text)


def _micros(instant: datetime) -> int:
    micros = (instant - _EPOCH) // timedelta(microseconds=1)
    if micros < 0:
        raise ValueError(instant)
    return micros


def _told(instant_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=instant_us)).isoformat().replace("+00:00", "Z")
