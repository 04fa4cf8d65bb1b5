"""
The compact form of a signed token, taken apart strictly: what is odd is refused before any signature is checked.

Rules:
- Three parts of canonical base64url, so that one token has one spelling; five parts are an encrypted one.
- Header and claims are JSON objects without a name that stands twice, for readers differ in which one they believe.
- The header names its algorithm and asks for nothing that has to be understood (`crit`, `b64`). Keys that it brings
  along or points at (`jwk`, `jku`, `x5c`, `x5u`) are never looked at: the key comes from the config's issuer.
- `exp`, `nbf` and `iat` are plain numbers of seconds; PyJWT alone would take the text "1e3" and the truth value.

Source: RFC 7515, 7519, 8725.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from proxy.errors import InvalidToken

KID_LENGTH_MAX = 256
JTI_LENGTH_MAX = 256
LEVELS_MAX = 64
_SECONDS_MAX = 2**53
_PART = re.compile(r"[A-Za-z0-9_-]+")
_MALFORMED = "The token is malformed."


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a token says before anybody knows who said it."""

    algorithm: str
    kid: str | None
    claims: Mapping[str, Any]


def take_apart(token: str, bytes_max: int) -> Unverified:
    """
    Read a token's header and claims.

    Raises: InvalidToken.
    Bounds: `bytes_max`; `LEVELS_MAX` of JSON; a key id or `jti` of 256 characters.
    """
    if len(token) > bytes_max:
        raise InvalidToken(f"The token is longer than {bytes_max} characters.")
    parts = token.split(".", 5)
    if len(parts) != 3:
        raise InvalidToken(_MALFORMED)
    header, said, _ = map(_decoded, parts)
    claims = _object(said)
    _check_times(claims)
    _text(claims.get("jti"), JTI_LENGTH_MAX)
    return _unverified(_object(header), claims)


def read_again(token: str) -> Mapping[str, Any]:
    """Return the claims of a token that was taken apart before."""
    return read_object(_decoded(token.split(".")[1]))


def read_object(text: bytes) -> dict[str, Any]:
    """Return the one JSON object in a text; raise ValueError for anything else, and for a name that stands twice."""
    try:
        value = json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    if _is_deep(value):
        raise ValueError("nested too deeply")
    return value


def _unverified(header: Mapping[str, Any], claims: Mapping[str, Any]) -> Unverified:
    if "crit" in header or header.get("b64", True) is not True:
        raise InvalidToken("The token's header asks for an extension that is not known here.")
    algorithm = _text(header.get("alg"), KID_LENGTH_MAX)
    if algorithm is None:
        raise InvalidToken(_MALFORMED)
    return Unverified(algorithm, _text(header.get("kid"), KID_LENGTH_MAX), claims)


def _decoded(part: str) -> bytes:
    if not _PART.fullmatch(part):
        raise InvalidToken(_MALFORMED)
    try:
        content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise InvalidToken(_MALFORMED) from None
    if base64.urlsafe_b64encode(content).rstrip(b"=") != part.encode():
        raise InvalidToken(_MALFORMED)
    return content


def _object(text: bytes) -> dict[str, Any]:
    try:
        return read_object(text)
    except ValueError:
        raise InvalidToken(_MALFORMED) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _is_deep(value: Any) -> bool:
    """Tell whether a value has more levels than are taken; how many `json` itself takes depends on the Python."""
    level = [value]
    for _ in range(LEVELS_MAX):
        children = [
            each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)
        ]
        level = [*chain.from_iterable(children)]
        if not level:
            return False
    return True


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _check_times(claims: Mapping[str, Any]) -> None:
    for name in ("exp", "nbf", "iat"):
        if name in claims and not _is_time(claims[name]):
            raise InvalidToken(_MALFORMED)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _SECONDS_MAX


def _text(value: Any, length_max: int) -> str | None:
    if value is not None and not (isinstance(value, str) and len(value) <= length_max):
        raise InvalidToken(_MALFORMED)
    return value
