"""`tollway gateways`: who lives on the fleet's Redis, and what an operator knows of those who do not answer."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson

from proxy.cli.config import config_option, format_option, settings_of
from proxy.cli.connected import on_redis
from proxy.fatal import Fatal
from proxy.store.membership import registry
from proxy.store.membership.registry import KnownGateway

_UNANSWERED = ", so nothing was told; look at [redis] in the config"


@click.group(short_help="Who lives on the fleet's Redis; tell that a gateway is dead.")
def gateways() -> None:
    """
    Show the gateways of a fleet, and tell it that one is dead for good.

    A gateway that is silent for 10 s may be dead, or only cut off from Redis while its streams go on. Until that is
    known, windows (day, month) keep what it reserved: until it returns, until it is started again on the same
    `data_dir`, until the requests' own deadline (`limits.exchange_s_max`) is over, or until `forget`.

    \b
    Examples:
      tollway gateways list
      tollway gateways forget 01JB0000000000000000000000
    """


@gateways.command("list", short_help="Show who lives, and who holds what in silence.")
@format_option
@config_option
def list_gateways(*, output: str, config: Path | None) -> None:
    """
    Show each gateway process of the last day, the latest heartbeat first, and what windows keep for the silent.

    \b
    Example:
      tollway gateways list --format json | jq '.gateways[] | select(.state == "silent").id'
    """
    listed = on_redis(settings_of(config), registry.known, unanswered=_UNANSWERED)
    if output == "json":
        click.echo(orjson.dumps({"gateways": [_as_dict(each) for each in listed]}))
    elif not listed:
        click.echo("No gateway has run on this Redis within a day.")
    for each in listed if output == "text" else ():
        click.echo(_line(each))


@gateways.command("forget", short_help="Tell that a gateway is dead for good.")
@click.argument("id")
@format_option
@config_option
def forget(*, id: str, output: str, config: Path | None) -> None:  # noqa: A002 (the argument's name)
    """
    Tell the fleet that a gateway is dead for good, by its ID as `list` shows it.

    Within 5 seconds what it left open is billed by its last progress, and windows have the rest back. Refused of one
    that beats. Is it not dead after all, its own end of each request corrects the bill when it returns; what was given
    to others meanwhile may then take a window over its amount.

    \b
    Example:
      tollway gateways forget 01JB0000000000000000000000
    """
    try:
        on_redis(settings_of(config), lambda connection: registry.forget(connection, id), unanswered=_UNANSWERED)
    except registry.StillAlive:
        raise Fatal(f"{id} beats: stop it first") from None
    except registry.UnknownGateway:
        raise Fatal(f"no gateway {id} is known here; look at `tollway gateways list`") from None
    click.echo(
        orjson.dumps({"forgotten": id}) if output == "json" else f"{id} is dead; the next sweep ends its requests"
    )


def _as_dict(gateway: KnownGateway) -> dict[str, Any]:
    return {
        "id": gateway.id,
        "state": gateway.state,
        "last_heartbeat": _told(gateway.seen_us),
        "suspect_reservations": gateway.held.reservations,
        "suspect_tokens": gateway.held.tokens,
    }


def _line(gateway: KnownGateway) -> str:
    seen = f"last heartbeat {_told(gateway.seen_us)}" if gateway.seen_us else "no heartbeat within a day"
    held = gateway.held
    kept = f", {held.reservations} requests with {held.tokens} tokens are suspect" if held.reservations else ""
    return f"{gateway.id}  {gateway.state:<6}  {seen}{kept}"


def _told(instant_us: int | None) -> str | None:
    if instant_us is None:
        return None
    return datetime.fromtimestamp(instant_us / 1_000_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
