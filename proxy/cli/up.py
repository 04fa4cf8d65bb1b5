"""`tollway up`: run the gateway, and the replicas that the config says to launch."""

import asyncio
from functools import partial
from pathlib import Path

import click
import uvloop

from engine.runtime.lifetime import until_stopped
from proxy import app
from proxy.app import Addresses
from proxy.cli.banner import banner
from proxy.cli.config import config_option, settings_of
from proxy.compose.reload import ConfigSource
from proxy.observe import logs
from proxy.workers import supervisor

WORKERS_MAX = 64


@click.command(short_help="Run the gateway.")
@config_option
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=WORKERS_MAX),
    default=1,
    show_default=True,
    help="Processes that serve on the one port; one a core.",
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

    SIGHUP, or a POST to /admin/reload, reads the config again: plans, tenants, prices, limits, issuers and models
    change without a restart, and without an answer that is cut.

    \b
    Examples:
      tollway up
      tollway up --config /etc/tollway/tollway.toml
      tollway up --config /etc/tollway/tollway.toml --workers 8
    """
    settings, asked = settings_of(config), asyncio.Event()
    logs.configure(log_level)
    source = ConfigSource(settings, partial(settings_of, config), asked)

    async def ready(addresses: Addresses) -> None:
        click.echo(banner(settings, addresses))

    several = partial(supervisor.running, source, workers, log_level)
    running = partial(app.running, source) if workers == 1 else several
    uvloop.run(until_stopped(running, ready, asked.set))
    click.echo("Tollway has stopped.")
