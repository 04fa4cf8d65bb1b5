"""Who is asking: the bearer token, verified."""

from collections.abc import Sequence

from proxy.downstream import Downstream
from proxy.errors import InvalidToken
from proxy.identity.principal import Principal
from proxy.identity.tokens import Verifier

_SCHEME = "bearer "


class Authenticate:
    """The first stage: no token, no service."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    async def __call__(self, downstream: Downstream) -> Principal:
        """Return who is asking; raise as `Verifier.verify` does."""
        authorization = downstream.header("authorization")
        return await self.bearer([] if authorization is None else [authorization], downstream.address)

    async def bearer(self, values: Sequence[str], address: str) -> Principal:
        """Return whom the `Authorization` headers from an address speak for; raise likewise."""
        if not values:
            raise InvalidToken("No token was sent: give one as `Authorization: Bearer TOKEN`.")
        if len(values) > 1:
            raise InvalidToken("More than one Authorization header was sent.")
        authorization = values[0]
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise InvalidToken("The Authorization header must have the form `Bearer TOKEN`.")
        return await self._verifier.verify(authorization[len(_SCHEME) :].strip(" "), address)
