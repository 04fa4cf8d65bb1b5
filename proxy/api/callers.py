"""Who calls a handler that is not an exchange."""

from typing import Any

from litestar import Request

from proxy.catalog import Catalog, Plan
from proxy.errors import ScopeMissing
from proxy.identity.principal import Principal
from proxy.stages.authenticate import Authenticate


class Callers:
    """Turns a request into its verified principal and plan; raises `InvalidToken`."""

    def __init__(self, authenticate: Authenticate, catalog: Catalog) -> None:
        self._authenticate = authenticate
        self._catalog = catalog

    async def principal(self, request: Request[Any, Any, Any]) -> Principal:
        """Return who is asking."""
        client = request.scope.get("client") or ("", 0)
        return await self._authenticate.bearer(request.headers.getall("authorization", []), client[0])

    async def require(self, request: Request[Any, Any, Any], *scopes: str) -> Principal:
        """Return who is asking, and has one of these scopes; raise `ScopeMissing` for who has none."""
        principal = await self.principal(request)
        if principal.scopes.isdisjoint(scopes):
            raise ScopeMissing(scopes)
        return principal

    async def plan(self, request: Request[Any, Any, Any]) -> Plan:
        """Return the plan that the caller is on."""
        return self.plan_of(await self.principal(request))

    def plan_of(self, principal: Principal) -> Plan:
        """Return a principal's plan."""
        plan = self._catalog.plan(principal.tenant, principal.plan)
        assert plan is not None, "a principal's plan was looked up in this catalog"
        return plan
