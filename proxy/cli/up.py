"""`tollway up`: run the gateway, and the replicas that the config says to launch."""

from functools import partial
from pathlib import Path

import click
import uvloop

from proxy import app
from proxy.app import Addresses
from proxy.cli.banner import banner
from proxy.cli.config import config_option, settings_of
from proxy.lifetime import until_stopped
from proxy.observe import logs


@click.command(short_help="Run the gateway.")
@config_option
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that serve; one for now."
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What is logged to standard error; info has one line an exchange.",
)
def up(*, config: Path | None, workers: int, log_level: str) -> None:
    """
    Run the gateway and the replicas that the config says to launch, until Ctrl-C or SIGTERM.

    \b
    Examples:
      tollway up
      tollway up --config /etc/tollway/tollway.toml
    """
    if workers > 1:
        raise click.UsageError("more than one worker is not supported yet; leave out --workers")
    settings = settings_of(config)
    logs.configure(log_level)

    async def ready(addresses: Addresses) -> None:
        click.echo(banner(settings, addresses))

    uvloop.run(until_stopped(partial(app.running, settings), ready))
    click.echo("Tollway has stopped.")
