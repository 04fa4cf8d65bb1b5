"""What the commands that read a config share."""

import os
from pathlib import Path

import click

from proxy.settings import Settings, load

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Config file. Default: ./tollway.toml if there is one, else the demo config.",
)
"""Gives a command its `config: Path | None`."""

format_option = click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people or for programs.",
)
"""Gives a command its `output: str`."""


def settings_of(config: Path | None) -> Settings:
    """
    Load what `--config` names, with this process's environment laid over it.

    Raises: ConfigError, which the command group prints.
    """
    return load(config, os.environ)
