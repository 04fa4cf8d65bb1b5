"""
What a client asks for by headers beside its body: each may be left out, and none says who it is.

Most requests have none of them, and are told apart at once.
"""

from typing import NamedTuple

from proxy.errors import InvalidRequest
from proxy.http.downstream import Downstream

ONCE_CHARACTERS_MAX = 255
REQUEST_ID_CHARACTERS_MAX = 512
"""As OpenAI's."""

_ONCE = b"idempotency-key"
_REQUEST_ID = b"x-client-request-id"
_HEAD = b"x-tollway-head"
_CHARGE = b"x-tollway-charge"
_ALL = frozenset({_ONCE, _REQUEST_ID, _HEAD, _CHARGE})


class Wishes(NamedTuple):
    """All that one client asked for."""

    once: str | None = None
    """Its own key for the request, which is served once (`Idempotency-Key`)."""
    request_id: str = ""
    """Its own name for the request (`X-Client-Request-Id`)."""
    holds_head: bool = False
    """A stream's head only with its first frame, for the sake of the real status (`x-tollway-head: hold`)."""
    tells_charge: bool = False
    """What a stream cost, behind its usage (`x-tollway-charge: stream`)."""


_NONE = Wishes()


def wishes(downstream: Downstream) -> Wishes:
    """Return what a client asks for; raise `InvalidRequest` for what nobody can mean."""
    if not downstream.has_any(_ALL):
        return _NONE
    return Wishes(
        _words(downstream, _ONCE, ONCE_CHARACTERS_MAX),
        _words(downstream, _REQUEST_ID, REQUEST_ID_CHARACTERS_MAX) or "",
        _is_said(downstream, _HEAD, "hold"),
        _is_said(downstream, _CHARGE, "stream"),
    )


def _words(downstream: Downstream, name: bytes, characters_max: int) -> str | None:
    value = downstream.header(name)
    if value is None or (0 < len(value) <= characters_max and value.isascii() and value.isprintable()):
        return value
    raise InvalidRequest(f"The header {name.decode()} must be 1 to {characters_max} printable ASCII characters.")


def _is_said(downstream: Downstream, name: bytes, word: str) -> bool:
    value = downstream.header(name)
    if value not in (None, word):
        raise InvalidRequest(f"The header {name.decode()} may only say `{word}`.")
    return value == word
