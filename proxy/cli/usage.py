"""`tollway usage`: the finance report."""

from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import click
from rich.console import Console

from proxy.billing import formats
from proxy.billing.query import Period, UsageQuery, answer
from proxy.billing.reports import GROUPS, Report
from proxy.cli.config import config_option, settings_of
from proxy.cli.connected import on_redis
from proxy.cli.period import from_option, period, to_option
from proxy.redis.client import RedisClient
from proxy.store.ledger_rows import LedgerRows

_QUIET_S = 2.0
"""A report that takes longer tells how far it is, as often as this."""


class Grouping(click.ParamType[tuple[str, ...]]):
    """Some of tenant, user and model, in the order of the report's columns."""

    name = "names"

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names."""
        names = tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value
        if not set(names) <= set(GROUPS) or len(set(names)) < len(names):
            self.fail(f"{value!r} is not some of {','.join(GROUPS)}, each once", param, ctx)
        return names


@click.command(short_help="Report who used what, and what it costs.")
@from_option
@to_option
@click.option(
    "--group-by",
    type=Grouping(),
    default=",".join(GROUPS),
    show_default=True,
    metavar="NAMES",
    help="Some of tenant, user and model: the report's first columns, in this order.",
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="For people, spreadsheets or programs; money has all its digits, a text in json.",
)
@config_option
def usage(
    *, from_us: int | None, to_us: int | None, group_by: tuple[str, ...], output: str, config: Path | None
) -> None:
    """
    Report who used how many tokens, and what they cost, from the ledger.

    The period is half-open, in UTC: --to is the first day or instant that is left out. An exchange belongs to the
    moment at which it was billed.

    \b
    Examples:
      tollway usage --from 2026-11-01 --to 2026-12-01
      tollway usage --from 2026-11-01 --group-by tenant --format csv > november.csv
      tollway usage --format json | jq '.totals'
    """
    begin, end = period(from_us, to_us, datetime.now(UTC))
    query = UsageQuery(period=Period(begin, end), group_by=group_by)
    report = on_redis(
        settings_of(config),
        lambda connection: _answer(query, connection),
        unanswered=", so there is no report; look at [redis] in the config",
    )
    match output:
        case "csv":
            click.echo(formats.as_csv(report), nl=False)
        case "json":
            click.echo(formats.as_json(report, begin, end), nl=False)
        case _:
            formats.as_table(report, begin, end, Console())
    _tell_unreadable(report)


async def _answer(query: UsageQuery, connection: RedisClient) -> Report:
    progress = _Progress()
    try:
        return await answer(query, LedgerRows(connection), watch=lambda _: progress.step())
    finally:
        progress.end()


def _tell_unreadable(report: Report) -> None:
    """End with an error where the sums lack something; they were printed all the same."""
    if report.unreadable.first:
        tenant, entry_id = report.unreadable.first
        raise click.ClickException(
            f"The report lacks {report.unreadable.count} rows of the ledger that this version cannot read, "
            f"the first is {entry_id} of tenant {tenant!r}. Rows are read by the version that wrote them."
        )


class _Progress:
    """Tells on stderr how many rows were read, once that takes long."""

    def __init__(self) -> None:
        self._rows = 0
        self._told_at = monotonic()
        self._told = False

    def step(self) -> None:
        self._rows += 1
        if monotonic() - self._told_at > _QUIET_S:
            click.echo(f"\r{self._rows:,} rows read", err=True, nl=False)
            self._told_at = monotonic()
            self._told = True

    def end(self) -> None:
        if self._told:
            click.echo(f"\r{self._rows:,} rows read", err=True)
