"""
What a token's claims say, each found by a JSON pointer (RFC 6901).

Every reader either returns something sound or raises `InvalidToken` with a message that names the claim and never
what stood in it.
"""

from collections.abc import Mapping
from typing import Any

from proxy.errors import InvalidToken

Pointer = tuple[str, ...]

NAME_LENGTH_MAX = 128
_SCOPES_MAX = 64
NO_SCOPES = frozenset[str]()
"""One for all: an empty set is as large as one of four."""


def pointer(text: str) -> Pointer:
    """Split a pointer such as `/https:~1~1example.com~1tenant` into its keys."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])


def find(claims: Mapping[str, Any], where: Pointer) -> Any:
    """Return what stands at a pointer; None where nothing does."""
    here: Any = claims
    for part in where:
        if isinstance(here, Mapping):
            here = here.get(part)
        elif isinstance(here, list) and part.isascii() and part.isdecimal() and len(part) < 6 and int(part) < len(here):
            here = here[int(part)]
        else:
            return None
    return here


def place(claims: dict[str, Any], where: Pointer, value: Any) -> None:
    """Write a value where `find` finds it, with tables on the way."""
    here = claims
    for part in where[:-1]:
        here = here.setdefault(part, {})
    here[where[-1]] = value


def name(value: Any, what: str) -> str:
    """
    Return a name of 1 to 128 printable characters, as the config's names are: no blanks around it.

    Raises: InvalidToken that speaks of `what`.
    """
    if value is None:
        raise InvalidToken(f"The token names no {what}.", "claims")
    if not isinstance(value, str) or not 1 <= len(value) <= NAME_LENGTH_MAX or not value.isprintable():
        message = f"The token's {what} is not a string of 1 to {NAME_LENGTH_MAX} printable characters."
        raise InvalidToken(message, "claims")
    if value != value.strip():
        raise InvalidToken(f"The token's {what} begins or ends with a blank.", "claims")
    return value


def scopes(value: Any) -> frozenset[str]:
    """
    Return the scopes in a list of strings or one string with spaces between them; none for None.

    Raises: InvalidToken.
    """
    parts = value.split() if isinstance(value, str) else [] if value is None else value
    if not isinstance(parts, list) or len(parts) > _SCOPES_MAX:
        raise InvalidToken(f"The token's scopes are not a string or a list of at most {_SCOPES_MAX} strings.", "claims")
    return frozenset(name(part, "scope") for part in parts) or NO_SCOPES
