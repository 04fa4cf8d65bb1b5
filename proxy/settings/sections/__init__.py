"""
What a config file may hold: one class a section, one docstring a field.

The docstrings are the operator's reference: unit, range, and what 0 means. A path is taken from the config file's
folder; the demo config's are taken from the current directory.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from proxy.settings.sections.auth import Auth, Claims, Issuer
from proxy.settings.sections.base import Section
from proxy.settings.sections.fleet import (
    GATEWAYS_OWN_FIELDS,
    Launch,
    Media,
    ModelSection,
    ReplicaSection,
    Routing,
)
from proxy.settings.sections.limits import Bounds
from proxy.settings.sections.listeners import Admin, Listen
from proxy.settings.sections.plans import PlanLimit, PlanSection, PriceLine, TenantSection
from proxy.settings.sections.stores import Ledger, Redis
from proxy.settings.values import Name

__all__ = [
    "GATEWAYS_OWN_FIELDS",
    "Admin",
    "Auth",
    "Bounds",
    "Claims",
    "Issuer",
    "Launch",
    "Ledger",
    "Listen",
    "Media",
    "ModelSection",
    "PlanLimit",
    "PlanSection",
    "PriceLine",
    "Redis",
    "ReplicaSection",
    "Routing",
    "Section",
    "Settings",
    "TenantSection",
]


class Settings(Section):
    """The whole file."""

    listen: Listen = Listen()
    admin: Admin = Admin()
    redis: Redis = Redis()
    auth: Auth
    models: Annotated[tuple[ModelSection, ...], Field(min_length=1)]
    plans: Annotated[dict[Name, PlanSection], Field(min_length=1)]
    tenants: Annotated[dict[Name, TenantSection], Field(min_length=1)]
    prices: tuple[PriceLine, ...] = ()
    routing: Routing = Routing()
    ledger: Ledger = Ledger()
    limits: Bounds = Bounds()

    @property
    def cache_secret_file(self) -> Path:
        """Return where the secret for cache salts is kept."""
        return self.routing.cache_secret_file or self.redis.data_dir / "cache.secret"

    def key_file(self, issuer: Issuer) -> Path:
        """Return where an issuer's key is kept."""
        return issuer.key_file or self.redis.data_dir / "development.key"
