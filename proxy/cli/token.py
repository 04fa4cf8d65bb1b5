"""`tollway token`: a token of the development issuer."""

import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import click

from proxy.catalog import Catalog
from proxy.cli.config import config_option, settings_of
from proxy.errors import InvalidToken
from proxy.identity import claims
from proxy.identity.development import mint
from proxy.redis.embedded.server import EmbeddedRedisNotRunning, address
from proxy.settings import Settings

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TTL_S_MAX = 366 * 86_400


class Duration(click.ParamType[int]):
    """`45s`, `30m`, `1h` or `7d`, in whole seconds; at most 366 days."""

    name = "duration"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds."""
        match = re.fullmatch(r"(\d{1,9})([smhd])", str(value), re.ASCII)
        seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
        if not 1 <= seconds <= _TTL_S_MAX:
            self.fail(f"{value!r} is not a duration such as 45s, 30m, 1h or 7d, at most 366d", param, ctx)
        return seconds


@click.command(short_help="Mint a token with the development issuer's key.")
@click.option("--tenant", required=True, metavar="T", help="A tenant of the config.")
@click.option("--user", required=True, metavar="U", help="Any user name.")
@click.option("--plan", metavar="P", help="One of the tenant's plans. Default: its first, whichever that is later.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="S",
    help="One of the scopes that the config lists for the issuer, such as usage:read; may be repeated.",
)
@click.option("--ttl", "ttl_s", type=Duration(), default="1h", show_default=True, help="How long the token lasts.")
@config_option
def token(
    *, tenant: str, user: str, plan: str | None, scopes: tuple[str, ...], ttl_s: int, config: Path | None
) -> None:
    """
    Mint a token with the development issuer's key and print it alone on stdout.

    Refuses where the config has no development issuer. Whoever runs this command needs the same `redis.data_dir` as
    the gateway, since the key is kept there: where no gateway runs, stderr says which key it was.

    \b
    Examples:
      export OPENAI_API_KEY=$(tollway token --tenant acme --user ada)
      tollway token --tenant acme --user finance --scope usage:read --ttl 8h
    """
    settings = settings_of(config)
    _known(Catalog.of(settings), tenant, plan)
    _sound(user, scopes)
    _counting(settings, scopes)
    minted = mint(settings, tenant=tenant, user=user, plan=plan, scopes=scopes, ttl_s=ttl_s)
    _tell_key(settings)
    click.echo(minted)


def _tell_key(settings: Settings) -> None:
    """Say by which key the token is signed, where no gateway is seen to run by it."""
    with suppress(EmbeddedRedisNotRunning):
        if settings.redis.url is None and address(settings.redis.data_dir):
            return
    [issuer] = [issuer for issuer in settings.auth.issuers if issuer.development]
    key = settings.key_file(issuer).absolute()
    where = settings.redis.data_dir.absolute()
    told = f"Signed with {key}. No gateway is seen to run in {where}: one elsewhere has a key of its own."
    click.echo(told, err=True)


def _known(catalog: Catalog, tenant: str, plan: str | None) -> None:
    found = catalog.tenant(tenant)
    if found is None:
        raise click.BadParameter(f"no tenant is named {tenant!r} in the config", param_hint="'--tenant'")
    if plan is not None and plan not in found.plans:
        raise click.BadParameter(f"{tenant} has no plan {plan!r}, only {', '.join(found.plans)}", param_hint="'--plan'")


def _sound(user: str, scopes: Collection[str]) -> None:
    """Refuse here what the gateway would refuse later."""
    try:
        claims.name(user, "user")
        for scope in scopes:
            claims.scopes([scope])
    except InvalidToken as error:
        raise click.UsageError(error.message) from None


def _counting(settings: Settings, scopes: Collection[str]) -> None:
    """Refuse scopes that the gateway would pass over; without a development issuer, `mint` says so."""
    for issuer in settings.auth.issuers:
        strange = set(scopes) - set(issuer.scopes)
        if issuer.development and strange:
            message = f"the config lists no {', '.join(sorted(strange))} in the `scopes` of its development issuer"
            raise click.BadParameter(message, param_hint="'--scope'")
