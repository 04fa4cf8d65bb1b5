"""`tollway revoke`: take tokens back before they expire."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import orjson

from proxy.cli.config import config_option, format_option, settings_of
from proxy.cli.connected import on_redis
from proxy.cli.period import Instant
from proxy.errors import InvalidToken
from proxy.fatal import Fatal
from proxy.identity import claims
from proxy.identity.jose import JTI_LENGTH_MAX
from proxy.identity.revocation import Revocation, RevocationKind, RevokedSubject
from proxy.settings import Settings
from proxy.store.revocations import TooManyRevocations, lift, revocations
from proxy.store.revocations import revoke as write

_on_redis = partial(on_redis, unanswered="; look at [redis] in the config, and at `tollway revoke list` once it does")

_until_option = click.option(
    "--until",
    "until_us",
    type=Instant(),
    metavar="DATE",
    help="Day or instant (UTC) from which it holds no longer. Default: until lifted.",
)


@click.group(short_help="Take tokens back before they expire.")
def revoke() -> None:
    """
    Take tokens back before they expire: one by its jti, or all of a user or tenant.

    Running gateways refuse them within two seconds; an answer that streams already goes on to its end. Revoking a user
    or a tenant refuses what was issued up to now: a token issued later works. At most 10,000 revocations hold at once.

    \b
    Examples:
      tollway revoke user ada --tenant acme
      tollway revoke jti 3f2a9c --issuer https://login.example.com/ --until 2026-12-01
      tollway revoke list --format json
      tollway revoke lift user:acme/ada
    """


@revoke.command("jti")
@click.argument("jti")
@click.option("--issuer", metavar="I", help="The token's iss. Default: the config's issuer, where it has only one.")
@_until_option
@format_option
@config_option
def revoke_jti(*, jti: str, issuer: str | None, until_us: int | None, output: str, config: Path | None) -> None:
    """
    Revoke one token, by its jti claim.

    \b
    Example:
      tollway revoke jti 3f2a9c --issuer https://login.example.com/
    """
    settings = settings_of(config)
    if not 1 <= len(jti) <= JTI_LENGTH_MAX:
        raise click.BadParameter(f"is not 1 to {JTI_LENGTH_MAX} characters long", param_hint="'JTI'")
    _revoke(settings, RevokedSubject(RevocationKind.JTI, jti, _issuer(settings, issuer)), until_us, output)


@revoke.command("user")
@click.argument("user")
@click.option("--tenant", required=True, metavar="T", help="The user's tenant.")
@_until_option
@format_option
@config_option
def revoke_user(*, user: str, tenant: str, until_us: int | None, output: str, config: Path | None) -> None:
    """
    Revoke every token that a user was issued up to now.

    \b
    Example:
      tollway revoke user ada --tenant acme
    """
    settings = settings_of(config)
    try:
        subject = RevokedSubject(RevocationKind.USER, claims.name(user, "user"), _known(settings, tenant))
    except InvalidToken as error:
        raise click.BadParameter(error.message, param_hint="'USER'") from None
    _revoke(settings, subject, until_us, output)


@revoke.command("tenant")
@click.argument("tenant")
@_until_option
@format_option
@config_option
def revoke_tenant(*, tenant: str, until_us: int | None, output: str, config: Path | None) -> None:
    """
    Revoke every token that a tenant's users were issued up to now.

    \b
    Example:
      tollway revoke tenant acme
    """
    settings = settings_of(config)
    _revoke(settings, RevokedSubject(RevocationKind.TENANT, _known(settings, tenant)), until_us, output)


@revoke.command("list")
@format_option
@config_option
def list_revoked(*, output: str, config: Path | None) -> None:
    """
    Show what is revoked, the latest first.

    \b
    Example:
      tollway revoke list --format json | jq '.revocations[].id'
    """
    listed = _on_redis(settings_of(config), revocations)
    if output == "json":
        click.echo(orjson.dumps({"revocations": [_as_dict(each) for each in listed]}))
    elif not listed:
        click.echo("Nothing is revoked.")
    for each in listed if output == "text" else ():
        click.echo(_line(each))


@revoke.command("lift")
@click.argument("id")
@format_option
@config_option
def lift_revocation(*, id: str, output: str, config: Path | None) -> None:  # noqa: A002 (the argument's name)
    """
    Lift a revocation, by the ID that it was given and that `list` shows.

    \b
    Example:
      tollway revoke lift user:acme/ada
    """
    try:
        subject = RevokedSubject.of(id)
    except ValueError:
        raise click.BadParameter(f"{id!r} is no id such as user:acme/ada", param_hint="'ID'") from None
    if not _on_redis(settings_of(config), lambda connection: lift(connection, subject)):
        raise Fatal(f"{id} is not revoked")
    click.echo(orjson.dumps({"lifted": id}) if output == "json" else f"{id} is no longer revoked")


def _issuer(settings: Settings, name: str | None) -> str:
    known = [issuer.issuer for issuer in settings.auth.issuers]
    if name is None and len(known) > 1:
        raise click.UsageError(f"the config has more than one issuer: name one of {', '.join(known)} by --issuer")
    if name is not None and name not in known:
        raise click.BadParameter(f"no issuer is named {name!r} in the config", param_hint="'--issuer'")
    return name or known[0]


def _known(settings: Settings, tenant: str) -> str:
    if tenant not in settings.tenants:
        raise click.BadParameter(f"no tenant is named {tenant!r} in the config", param_hint="tenant")
    return tenant


def _revoke(settings: Settings, subject: RevokedSubject, until_us: int | None, output: str) -> None:
    try:
        done = _on_redis(settings, lambda connection: write(connection, subject, until_us))
    except TooManyRevocations as error:
        raise Fatal(str(error)) from None
    click.echo(orjson.dumps(_as_dict(done)) if output == "json" else _line(done))


def _as_dict(revocation: Revocation) -> dict[str, Any]:
    subject = revocation.subject
    within = {RevocationKind.JTI: "issuer", RevocationKind.USER: "tenant"}.get(subject.kind)
    return {
        "id": str(subject),
        "kind": subject.kind,
        "name": subject.name,
        **({within: subject.within} if within else {}),
        "at": _told(revocation.at_us),
        "until": _told(revocation.until_us) if revocation.until_us else None,
    }


def _line(revocation: Revocation) -> str:
    what = (
        "is refused"
        if revocation.subject.kind is RevocationKind.JTI
        else f"issued up to {_told(revocation.at_us)} refused"
    )
    until = f"until {_told(revocation.until_us)}" if revocation.until_us else "until lifted"
    return f"{revocation.subject}  {what}, {until}"


def _told(instant_us: int) -> str:
    return datetime.fromtimestamp(instant_us / 1_000_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
