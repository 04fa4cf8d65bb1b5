"""Who may use how much, and what it costs: `[plans.NAME]`, `[tenants.NAME]` and `[[prices]]`."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from policies.quota import MAX_AMOUNT, Limit, Per, Scope, Unit
from proxy.settings.sections.base import Section
from proxy.settings.values import Micros, Name


class PlanLimit(Section):
    """One line of a plan. No two of a plan may share scope, unit and per."""

    scope: Scope
    """Whose use is counted: `tenant`, `user`, `model` (the tenant's use of one model) or `user_model`."""
    unit: Unit
    """`tokens`, `requests`, or `concurrent` (requests in flight)."""
    amount: Annotated[int, Field(ge=1, le=MAX_AMOUNT)]
    """How many, 1 to 2**53 - 1."""
    per: Per | None = None
    """`second`, `minute` and `hour` are rates that refill all the time; `day` and `month` are calendar windows in UTC.
    Left out for `concurrent`, needed otherwise."""

    @field_validator("per")
    @classmethod
    def _fits_the_unit(cls, per: Per | None, info: ValidationInfo) -> Per | None:
        unit = info.data.get("unit")
        if unit is Unit.CONCURRENT and per is not None:
            raise ValueError("must be left out for unit = 'concurrent'")
        if unit not in (None, Unit.CONCURRENT) and per is None:
            raise ValueError(f"is missing: unit = '{unit}' counts per second, minute, hour, day or month")
        return per

    @property
    def limit(self) -> Limit:
        """Return this line as the policies know it."""
        return Limit(scope=self.scope, unit=self.unit, amount=self.amount, per=self.per)


class PlanSection(Section):
    """What a tenant that has this plan may do. Without limits, anything."""

    lane: Literal["interactive", "batch"] = "interactive"
    """The lane of its requests."""
    models: tuple[Name, ...] = ("*",)
    """Names of the models it may use; `*` for all."""
    limits: tuple[PlanLimit, ...] = ()
    """A request must hold every one of them."""


class TenantSection(Section):
    """One customer."""

    plans: Annotated[tuple[Name, ...], Field(min_length=1)]
    """The plans its tokens may name; the first counts for a token that names none."""


class PriceLine(Section):
    """What one model costs. A model without a price is served and billed 0."""

    model: Name
    """The model's name, no alias."""
    version: Name
    """Stamped on each record at its reservation, so that a bill can be explained later. Change it with the price."""
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    """ISO 4217."""
    prompt: Micros
    """Per million prompt tokens that were not cached, in millionths of the currency; 0 is free."""
    cached: Micros
    """Per million prompt tokens served from the prefix cache, in millionths of the currency; 0 is free."""
    completion: Micros
    """Per million completion tokens, in millionths of the currency; 0 is free."""
