"""Who is asking: the bearer token, verified by the issuers of the config. No token, no service."""

from collections.abc import Sequence

from proxy.errors import InvalidToken
from proxy.http.downstream import Downstream
from proxy.identity.principal import Principal
from proxy.identity.tokens import Verifier

_SCHEME = "bearer "


async def authenticate(verifier: Verifier, downstream: Downstream) -> Principal:
    """Return who is asking; raise as `Verifier.verify` does."""
    token = _token(downstream.header(b"authorization"))
    return verifier.known(token) or await verifier.verify(token, downstream.address)


async def bearer(verifier: Verifier, values: Sequence[str], address: str) -> Principal:
    """Return whom the `Authorization` headers from an address speak for; raise likewise."""
    if len(values) > 1:
        raise InvalidToken("More than one Authorization header was sent.")
    return await verifier.verify(_token(values[0] if values else None), address)


def _token(authorization: str | None) -> str:
    if authorization is None:
        raise InvalidToken("No token was sent: give one as `Authorization: Bearer TOKEN`.", "missing")
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        raise InvalidToken("The Authorization header must have the form `Bearer TOKEN`.")
    return authorization[len(_SCHEME) :].strip(" ")
