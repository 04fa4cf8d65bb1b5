"""Whose limits a command is about: `--tenant`, `--user`, `--plan`, `--model` and the name of a limit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import click

from policies.quota import Limit, Subject, Unit
from proxy.catalog import Catalog, Plan
from proxy.errors import InvalidToken
from proxy.identity import claims
from proxy.settings import Settings
from proxy.store.quotas import OF_A_MODEL, OF_A_USER

_Command = TypeVar("_Command", bound=Callable[..., Any])


def whose_options(command: _Command) -> _Command:
    """Give a command its `tenant: str` and `user`, `plan`, `model: str | None`."""
    for option in (
        click.option("--model", metavar="M", help="One of the plan's models, for limits of a model."),
        click.option("--plan", metavar="P", help="One of the tenant's plans. Default: its first."),
        click.option("--user", metavar="U", help="One of the tenant's users, for limits of a user."),
        click.option("--tenant", required=True, metavar="T", help="A tenant of the config."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class AskedLimits:
    """The limits of one plan, and whom they are asked for."""

    tenant: str
    user: str | None
    plan: Plan
    model: str | None
    """By its configured name; None for all of the plan's."""
    models: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings, *, tenant: str, user: str | None, plan: str | None, model: str | None) -> Self:
        """Look everything up in the config; raise click.BadParameter for what is not there."""
        catalog = Catalog.of(settings)
        found = _plan(catalog, tenant, plan)
        if user is not None:
            try:
                claims.name(user, "user")
            except InvalidToken as error:
                raise click.BadParameter(error.message, param_hint="'--user'") from None
        models = {each.name: each for each in catalog.models_for(found)}
        if model is not None:
            known = catalog.model(model)
            if known is None or known.name not in models:
                message = f"the plan {found.name!r} has no model {model!r}"
                raise click.BadParameter(message, param_hint="'--model'")
            return cls(tenant, user, found, known.name, (known.name,))
        return cls(tenant, user, found, None, tuple(models))

    @property
    def shown(self) -> list[Limit]:
        """Return the limits that can be shown: those of a user need one."""
        return [limit for limit in self.plan.limits if self.user is not None or limit.scope not in OF_A_USER]

    def limit(self, name: str) -> Limit:
        """Return a limit of which something can be given; raise click.BadParameter."""
        for limit in self.plan.limits:
            if limit.name == name:
                break
        else:
            names = ", ".join(limit.name for limit in self.plan.limits) or "none"
            message = f"the plan {self.plan.name!r} has no limit {name!r}, only {names}"
            raise click.BadParameter(message, param_hint="'--limit'")
        if limit.unit is Unit.CONCURRENT:
            message = "a place in flight comes back with the end of its request alone"
            raise click.BadParameter(message, param_hint="'--limit'")
        return limit

    def subject(self, limit: Limit) -> Subject:
        """Return whose use a limit counts; raise click.UsageError where that is not said."""
        for option, value, scopes in (("--user", self.user, OF_A_USER), ("--model", self.model, OF_A_MODEL)):
            if limit.scope in scopes and value is None:
                raise click.UsageError(f"{limit.name} is a limit of each {option[2:]}: name one by {option}")
        return Subject(tenant=self.tenant, user=self.user or "", model=self.model or "")


def _plan(catalog: Catalog, tenant: str, plan: str | None) -> Plan:
    known = catalog.tenant(tenant)
    if known is None:
        raise click.BadParameter(f"no tenant is named {tenant!r} in the config", param_hint="'--tenant'")
    found = catalog.plan(tenant, plan)
    if found is None:
        message = f"{tenant} has no plan {plan!r}, only {', '.join(known.plans)}"
        raise click.BadParameter(message, param_hint="'--plan'")
    return found
