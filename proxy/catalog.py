"""
The config as a request asks it: names resolved, limits ready, one dictionary lookup a question.

A catalog never changes. A reload builds another; a request goes by the one that held at its beginning (`in_force.py`).
"""

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from policies.pricing import Price
from policies.quota import Limit
from proxy.settings import Settings, sections


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model's numbers. Units: tokens. What each means stands at `proxy.settings.sections.fleet.ModelSection`."""

    name: str
    aliases: tuple[str, ...]
    context_tokens: int
    default_completion: int
    min_completion: int
    tokens_per_s_max: int
    template_tokens: int
    endpoints: frozenset[str]
    """`chat`, `completions`, `embeddings`."""
    cache_scope: str
    """`user`, `tenant` or the operator's group."""
    extra_fields: frozenset[str]
    unknown_fields: str
    """`ignore` or `refuse`."""
    media: sections.Media | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a tenant may do under one of its plans."""

    name: str
    lane: str
    limits: tuple[Limit, ...]
    """Each counts for every model of the plan."""
    models: frozenset[str]
    """Names of the models it may use, `*` resolved."""

    def allows(self, model: Model) -> bool:
        """Tell whether this plan may use the model."""
        return model.name in self.models


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer and its plans by name; the first is the default."""

    name: str
    plans: Mapping[str, Plan]

    @property
    def default_plan(self) -> Plan:
        """Return the plan of a token that names none."""
        return next(iter(self.plans.values()))


class Catalog:
    """Models, tenants, plans and prices by name."""

    def __init__(self, models: tuple[Model, ...], tenants: Mapping[str, Tenant], prices: Mapping[str, Price]) -> None:
        self.models = models
        """In the config's order."""
        self._models = {name: model for model in models for name in (model.name, *model.aliases)}
        self._tenants = tenants
        self._prices = prices
        self._models_of = {
            plan: tuple(model for model in models if plan.allows(model))
            for tenant in tenants.values()
            for plan in tenant.plans.values()
        }

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Resolve settings, which are sound by construction."""
        models = tuple(_model(model) for model in settings.models)
        plans = {name: _plan(name, plan, models) for name, plan in settings.plans.items()}
        tenants = {
            name: Tenant(name, MappingProxyType({plan: plans[plan] for plan in tenant.plans}))
            for name, tenant in settings.tenants.items()
        }
        return cls(models, tenants, {price.model: _price(price) for price in settings.prices})

    def only(self, tenants: Container[str]) -> Self:
        """Return the same with some of the tenants."""
        left = {name: tenant for name, tenant in self._tenants.items() if name in tenants}
        return type(self)(self.models, left, self._prices)

    @property
    def tenants(self) -> Collection[str]:
        """Return the names of all tenants."""
        return self._tenants.keys()

    def model(self, name: str) -> Model | None:
        """Return the model with this name or alias."""
        return self._models.get(name)

    def tenant(self, name: str) -> Tenant | None:
        """Return the tenant with this name."""
        return self._tenants.get(name)

    def plan(self, tenant: str, claim: str | None = None) -> Plan | None:
        """Return the tenant's plan with this name, or its default for None; None for what it was not given."""
        found = self._tenants.get(tenant)
        if found is None:
            return None
        return found.default_plan if claim is None else found.plans.get(claim)

    def models_for(self, plan: Plan) -> tuple[Model, ...]:
        """Return the models a plan may use, in the config's order."""
        return self._models_of.get(plan, ())

    def price(self, model: Model) -> Price | None:
        """Return what the model costs; None is free."""
        return self._prices.get(model.name)


def _model(model: sections.ModelSection) -> Model:
    return Model(
        name=model.name,
        aliases=model.aliases,
        context_tokens=model.context_tokens,
        default_completion=model.default_completion,
        min_completion=model.min_completion,
        tokens_per_s_max=model.tokens_per_s_max,
        template_tokens=model.template_tokens,
        endpoints=frozenset(model.endpoints),
        cache_scope=model.cache_scope,
        extra_fields=frozenset(model.extra_fields),
        unknown_fields=model.unknown_fields,
        media=model.media,
    )


def _plan(name: str, plan: sections.PlanSection, models: tuple[Model, ...]) -> Plan:
    named = {model.name for model in models}
    return Plan(
        name=name,
        lane=plan.lane,
        limits=tuple(line.limit for line in plan.limits),
        models=frozenset(named if "*" in plan.models else plan.models),
    )


def _price(price: sections.PriceLine) -> Price:
    return Price(
        version=price.version,
        currency=price.currency,
        prompt=price.prompt,
        cached=price.cached,
        completion=price.completion,
    )
