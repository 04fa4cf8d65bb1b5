"""`tollway check`: every fault of a config at once, and what of it is probably not meant."""

from pathlib import Path
from typing import Any

import click
import orjson

from proxy.cli.config import format_option, settings_of
from proxy.compose.files import looked_at
from proxy.settings import ConfigError, Settings
from proxy.settings.advice import advice
from proxy.settings.faults import in_order


@click.command(short_help="Print every fault in a config file.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@format_option
@click.pass_context
def check(ctx: click.Context, file: Path | None, output: str) -> None:
    """
    Print every fault in a config FILE with its path; exit 1 if there is any.

    Environment variables TOLLWAY__SECTION__FIELD count, as they do for `tollway up`. Files of keys and certificates are
    opened where they are: one that is of no use is a fault. Lines marked `warning` tell what is probably not meant,
    such as a file that is not there or a model without a price; the exit status stays 0.

    \b
    Examples:
      tollway check deploy/examples/production.toml
      tollway check --format json tollway.toml | jq -r '.faults[].path'
    """
    answer: dict[str, Any] = {"file": str(file) if file else None, "ok": True, "faults": []}
    try:
        settings = settings_of(file)
        files = looked_at(settings)
        if files.useless:
            raise ConfigError(files.useless, str(file or "config"))
    except ConfigError as error:
        answer["ok"] = False
        answer["faults"] = [fault._asdict() for fault in error.faults]
        lines = str(error)
    else:
        warnings = in_order([*advice(settings), *files.absent])
        answer |= {"warnings": [each._asdict() for each in warnings], "summary": _summary(settings)}
        lines = "\n".join([*(f"{file or 'config'}: warning: {each}" for each in warnings), _sound(file, answer)])
    click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2) if output == "json" else lines)
    ctx.exit(0 if answer["ok"] else 1)


def _sound(file: Path | None, answer: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {what if count != 1 else what[:-1]}" for what, count in answer["summary"].items())
    return f"{file or 'config'}: ok ({counts})"


def _summary(settings: Settings) -> dict[str, int]:
    return {
        "issuers": len(settings.auth.issuers),
        "models": len(settings.models),
        "replicas": sum(len(model.replicas) for model in settings.models),
        "plans": len(settings.plans),
        "tenants": len(settings.tenants),
        "prices": len(settings.prices),
    }
