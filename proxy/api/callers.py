"""Who calls a handler that is not an exchange."""

from collections.abc import Callable
from typing import Any, NamedTuple

from litestar import Request

from proxy.catalog import Plan
from proxy.errors import InvalidToken, ScopeMissing
from proxy.identity.principal import Principal
from proxy.in_force import Config, InForce
from proxy.stages.authenticate import bearer


class Caller(NamedTuple):
    """Who is asking, and the config that held when it did."""

    principal: Principal
    config: Config

    @property
    def plan(self) -> Plan:
        """Return the plan that the caller is on."""
        plan = self.config.catalog.plan(self.principal.tenant, self.principal.plan)
        assert plan is not None, "a principal's plan was looked up in this catalog"
        return plan


class Callers:
    """Turns a request into its verified principal; raises `InvalidToken`."""

    def __init__(self, in_force: InForce, token_refused: Callable[[InvalidToken], None]) -> None:
        self._in_force = in_force
        self._token_refused = token_refused

    async def caller(self, request: Request[Any, Any, Any]) -> Caller:
        """Return who is asking, and by which config to answer."""
        config, client = self._in_force.now, request.scope.get("client") or ("", 0)
        headers = request.headers.getall("authorization", [])
        try:
            return Caller(await bearer(config.verifier, headers, client[0]), config)
        except InvalidToken as error:
            self._token_refused(error)
            raise

    async def principal(self, request: Request[Any, Any, Any]) -> Principal:
        """Return who is asking."""
        return (await self.caller(request)).principal

    async def require(self, request: Request[Any, Any, Any], *scopes: str) -> Principal:
        """Return who is asking, and has one of these scopes; raise `ScopeMissing` for who has none."""
        principal = await self.principal(request)
        if principal.scopes.isdisjoint(scopes):
            raise ScopeMissing(scopes)
        return principal
