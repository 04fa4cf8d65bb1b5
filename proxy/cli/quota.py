"""`tollway quota`: how a tenant's limits stand, and what an operator gives of them."""

import getpass
import logging
import os
import time
from functools import partial
from pathlib import Path

import click
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from policies.quota import MAX_AMOUNT, LimitKind
from proxy.cli.asked_limits import AskedLimits, whose_options
from proxy.cli.config import config_option, format_option, settings_of
from proxy.cli.connected import on_redis
from proxy.observe import logs
from proxy.settings import Settings
from proxy.store import quotas
from proxy.store.quotas import OF_A_MODEL, LimitLine, limit_lines
from proxy.store.suspects import suspects
from proxy.ulids import new_ulid

_log = logging.getLogger(__name__)
_limit_option = click.option(
    "--limit", "name", required=True, metavar="L", help="A limit by its name, as `show` tells."
)


@click.group(short_help="Show how limits stand, and give more of them.")
def quota() -> None:
    """
    Show how a tenant's limits stand, and give more of them.

    It works on Redis itself, and every gateway goes by it at once. Who gave what is told in a line of JSON on stderr.

    \b
    Examples:
      tollway quota show --tenant acme --user ada
      tollway quota grant --tenant acme --user ada --limit user-tokens-day --amount 50000
      tollway quota reset --tenant globex --user bob --limit user-requests-minute
    """


@quota.command("show", short_help="Show what is used, what is left and when it is reset.")
@whose_options
@format_option
@config_option
def show(
    *, tenant: str, user: str | None, plan: str | None, model: str | None, output: str, config: Path | None
) -> None:
    """
    Show what is used of each limit, what is left of it and when it is reset; of users' limits only with --user.

    \b
    Example:
      tollway quota show --tenant acme --user ada --format json | jq '.limits[].remaining'
    """
    settings = settings_of(config)
    asked = AskedLimits.of(settings, tenant=tenant, user=user, plan=plan, model=model)
    lines = on_redis(
        settings,
        lambda connection: limit_lines(
            partial(quotas.statuses, connection),
            partial(suspects, connection),
            asked.shown,
            tenant=tenant,
            user=user or "",
            models=asked.models,
        ),
        unanswered=", so nothing can be shown; look at [redis] in the config",
    )
    if output == "json":
        told = {"object": "quota", "tenant": tenant, "user": user, "plan": asked.plan.name}
        click.echo(orjson.dumps(told | {"limits": [line.as_dict(_now_us()) for line in lines]}))
    else:
        Console().print(_table(lines) if lines else Text(f"The plan {asked.plan.name} has no limit to show."))


@quota.command("grant", short_help="Give more of a limit in its present window.")
@whose_options
@_limit_option
@click.option("--amount", required=True, type=click.IntRange(1, MAX_AMOUNT), metavar="N", help="Tokens or requests.")
@format_option
@config_option
def grant(
    *,
    tenant: str,
    user: str | None,
    plan: str | None,
    model: str | None,
    name: str,
    amount: int,
    output: str,
    config: Path | None,
) -> None:
    """
    Give more of a limit: of a day or month beyond its amount, until it is over; of a pace at most what makes it full.

    \b
    Example:
      tollway quota grant --tenant acme --user ada --limit user-tokens-day --amount 50000
    """
    settings = settings_of(config)
    asked = AskedLimits.of(settings, tenant=tenant, user=user, plan=plan, model=model)
    given, line = _given(settings, asked, name, amount)
    _log.info(
        "quota_granted",
        extra={
            "tenant": tenant,
            "user": user,
            "model": line.model,
            "limit": name,
            "amount": given,
            "operator": _operator(),
        },
    )
    _tell(asked, given, line, output)


@quota.command("reset", short_help="Give back all that is used of a limit.")
@whose_options
@_limit_option
@format_option
@config_option
def reset(
    *,
    tenant: str,
    user: str | None,
    plan: str | None,
    model: str | None,
    name: str,
    output: str,
    config: Path | None,
) -> None:
    """
    Give back all that is used of a limit.

    What is in flight counts as used: what it does not need comes back on top. What was granted stays.

    \b
    Example:
      tollway quota reset --tenant globex --user bob --limit user-requests-minute
    """
    settings = settings_of(config)
    asked = AskedLimits.of(settings, tenant=tenant, user=user, plan=plan, model=model)
    given, line = _given(settings, asked, name, None)
    _log.info(
        "quota_reset",
        extra={
            "tenant": tenant,
            "user": user,
            "model": line.model,
            "limit": name,
            "amount": given,
            "operator": _operator(),
        },
    )
    _tell(asked, given, line, output)


def _given(settings: Settings, asked: AskedLimits, name: str, more: int | None) -> tuple[int, LimitLine]:
    """Give, and return how much that was and how the limit stands now."""
    limit = asked.limit(name)
    subject, grant_id = asked.subject(limit), new_ulid()
    logs.configure()
    was, status = on_redis(
        settings,
        lambda connection: quotas.grant(connection, subject, limit, more, grant_id=grant_id),
        unanswered="; it may have been given: look at `tollway quota show` before you try again",
    )
    return was - status.used, LimitLine(status, asked.model if limit.scope in OF_A_MODEL else None)


def _tell(asked: AskedLimits, given: int, line: LimitLine, output: str) -> None:
    limit, now_us = line.status.limit, _now_us()
    if output == "json":
        whose = {"tenant": asked.tenant, "user": asked.user, "given": given}
        click.echo(orjson.dumps(whose | line.as_dict(now_us)))
        return
    until = f", until {line.resets_at(now_us)}" if limit.kind is LimitKind.WINDOW else ""
    click.echo(f"{limit.name}: {given:,} {limit.unit} given, {line.status.remaining:,} of {limit.amount:,} left{until}")


def _table(lines: list[LimitLine]) -> Table:
    table, now_us = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)), _now_us()
    for title in ("limit", "model"):
        table.add_column(title, overflow="fold")
    for title in ("amount", "used", "left"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("whole again at", no_wrap=True)
    for line in lines:
        status = line.status
        numbers = (f"{number:,}" for number in (status.limit.amount, max(0, status.used), status.remaining))
        whole_at = line.resets_at(now_us) if status.reset_after_us else "now"
        table.add_row(*map(Text, (status.limit.name, line.model or "", *numbers, whole_at)))
    return table


def _operator() -> str:
    """Return the account that runs this command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _now_us() -> int:
    return time.time_ns() // 1_000
