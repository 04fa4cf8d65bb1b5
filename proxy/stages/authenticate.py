"""Who is asking: the bearer token, verified."""

from collections.abc import Sequence

from proxy.errors import InvalidToken
from proxy.http.downstream import Downstream
from proxy.identity.principal import Principal
from proxy.identity.tokens import Verifier

_SCHEME = "bearer "


class Authenticate:
    """The first stage: no token, no service."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    async def __call__(self, downstream: Downstream) -> Principal:
        """Return who is asking; raise as `Verifier.verify` does."""
        token = _token(downstream.header("authorization"))
        return self._verifier.known(token) or await self._verifier.verify(token, downstream.address)

    async def bearer(self, values: Sequence[str], address: str) -> Principal:
        """Return whom the `Authorization` headers from an address speak for; raise likewise."""
        if len(values) > 1:
            raise InvalidToken("More than one Authorization header was sent.")
        return await self._verifier.verify(_token(values[0] if values else None), address)


def _token(authorization: str | None) -> str:
    if authorization is None:
        raise InvalidToken("No token was sent: give one as `Authorization: Bearer TOKEN`.")
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        raise InvalidToken("The Authorization header must have the form `Bearer TOKEN`.")
    return authorization[len(_SCHEME) :].strip(" ")
