"""`tollway check`: every fault of a config at once."""

from pathlib import Path
from typing import Any

import click
import orjson

from proxy.cli.config import format_option, settings_of
from proxy.settings import ConfigError, Settings


@click.command(short_help="Print every fault in a config file.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@format_option
@click.pass_context
def check(ctx: click.Context, file: Path | None, output: str) -> None:
    """
    Print every fault in a config FILE with its path; exit 1 if there is any.

    Environment variables TOLLWAY__SECTION__FIELD count, as they do for `tollway up`. Keys and secrets are not opened:
    a config can be checked where they are not.

    \b
    Examples:
      tollway check deploy/examples/production.toml
      tollway check --format json tollway.toml | jq -r '.faults[].path'
    """
    answer: dict[str, Any] = {"file": str(file) if file else None, "ok": True, "faults": []}
    try:
        answer["summary"] = _summary(settings_of(file))
    except ConfigError as error:
        answer["ok"] = False
        answer["faults"] = [fault._asdict() for fault in error.faults]
        lines = str(error)
    else:
        counts = ", ".join(f"{count} {what if count != 1 else what[:-1]}" for what, count in answer["summary"].items())
        lines = f"{file or 'config'}: ok ({counts})"
    click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2) if output == "json" else lines)
    ctx.exit(0 if answer["ok"] else 1)


def _summary(settings: Settings) -> dict[str, int]:
    return {
        "issuers": len(settings.auth.issuers),
        "models": len(settings.models),
        "replicas": sum(len(model.replicas) for model in settings.models),
        "plans": len(settings.plans),
        "tenants": len(settings.tenants),
        "prices": len(settings.prices),
    }
