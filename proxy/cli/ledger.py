"""`tollway ledger`: what only an operator may decide about the data in Redis."""

from pathlib import Path

import click

from proxy.cli.config import config_option, settings_of
from proxy.cli.connected import on_redis
from proxy.store.membership import generation

_LOSS = (
    "Every quota counts from 0 again, and bills that were only in Redis are gone: nothing rebuilds them. "
    "Settlements that gateways still owe are charged."
)


@click.group(short_help="Decide about a Redis that lost its data.")
def ledger() -> None:
    """
    Decide about the data in Redis.

    \b
    Example:
      tollway ledger accept-empty
    """


@ledger.command("accept-empty", short_help="Go on without the data that Redis lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def accept_empty(*, yes: bool, config: Path | None) -> None:
    """
    Go on without the data that Redis lost, for all gateways of the fleet.

    Gateways that remember data which is not in Redis admit nothing and charge nothing until this is run, once. Restore
    a backup instead if there is one: then they go on by themselves.

    \b
    Example:
      tollway ledger accept-empty --yes
    """
    if not yes:
        click.confirm(f"{_LOSS} Go on?", abort=True)
    settings = settings_of(config)
    lost = on_redis(
        settings,
        lambda connection: generation.accept(connection, generation.remembered(settings.redis.data_dir)),
        unanswered=", so nothing was decided; look at [redis] in the config",
    )
    for what, names in (("epoch", lost.generations), ("tenant", lost.tenants)):
        for name in names:
            click.echo(f"Accepted: the data of {what} {name!r} is lost.")
    if lost.generations or lost.tenants:
        click.echo("Gateways go on within 2 seconds.")
    else:
        click.echo("No gateway misses any data; nothing was given up.")
