"""
The command group.

Imports no command before it is asked for: `tollway sim` starts without pydantic, Litestar or Redis.
"""

from importlib import import_module
from typing import Any, cast

import click

from proxy import __version__
from proxy.fatal import Fatal

COMMANDS = ("up", "check", "token", "usage", "quota", "revoke", "gateways", "ledger", "sim")
"""In the order in which a newcomer needs them."""


class LazyGroup(click.Group):
    """Finds `tollway NAME` as `NAME` in the module of that name here, and ends a Fatal in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in their own order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        return cast("click.Command", getattr(import_module(f"proxy.cli.{cmd_name}"), cmd_name))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what only the operator can change is told without a traceback."""
        try:
            return super().invoke(ctx)
        except Fatal as fatal:
            raise click.ClickException(str(fatal)) from None


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="tollway", message="%(prog)s %(version)s")
def tollway() -> None:
    """
    Meter tokens for many tenants before a fleet of vLLM replicas.

    \b
    Example, from nothing to an answer:
      tollway up &
      curl http://127.0.0.1:8080/v1/models -H "Authorization: Bearer $(tollway token --tenant acme --user ada)"
    """
