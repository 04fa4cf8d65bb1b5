"""Who is asking: the bearer token, verified."""

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
        """Return who is asking; raise `InvalidToken`."""
        return await self.bearer(downstream.header("authorization"))

    async def bearer(self, authorization: str | None) -> Principal:
        """Return whom an `Authorization` header speaks for; raise `InvalidToken`."""
        if authorization is None:
            raise InvalidToken("No token was sent: give one as `Authorization: Bearer TOKEN`.")
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise InvalidToken("The Authorization header must have the form `Bearer TOKEN`.")
        return await self._verifier.verify(authorization[len(_SCHEME) :].strip())
