"""
The head of a request, judged: what could be read in two ways by two servers is refused, and nothing is repaired.

Rules: llhttp has refused already what breaks the grammar (bare LF and CR, folded lines, NUL, spaces before a colon,
Content-Length beside Transfer-Encoding, doubled or odd lengths); `tests/integration/test_guard.py` proves it. Here
stands what it lets pass.

Source: RFC 9112 sections 2.2, 3.2, 6.1, 6.3, 11.2; RFC 9110 section 7.2.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from proxy.edge.forwarded import FORWARDED_FOR
from proxy.errors import ApiError, Code, InvalidRequest, MethodNotAllowed

BYTES_MAX = 32 * 1024
"""Of the whole head: request line and fields."""
FIELDS_MAX = 100
TARGET_BYTES_MAX = 8 * 1024

SINGLE = frozenset(
    b"host content-length transfer-encoding content-type content-encoding authorization expect upgrade "
    b"idempotency-key x-tollway-head x-tollway-charge".split()
)
"""Fields that may stand once: of two, one server believes the first and another the last."""

_METHODS = frozenset(b"GET HEAD POST OPTIONS PUT PATCH DELETE".split())
"""What a path may be asked with; which of them it takes is its own to say. CONNECT and TRACE never reach one."""
_VERSIONS = frozenset({"1.0", "1.1"})
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ODD_PATH = re.compile(rb"//|[\\#]|/\.{1,2}(?:/|$)|%(?:2[eE]|5[cC]|[01][0-9A-Fa-f]|7[fF]|(?![0-9A-Fa-f]{2}))")
_ENCODED_SLASH = re.compile(rb"%2[fF]")
_NAMES = b"/v1/models/"
"""Below it stand names, which may hold a slash and which some clients then encode."""


class Head:
    """
    A head as it is read: target and fields grow; once it is whole, it can be read in one way only and has the rest.

    A class of few slots, because each request makes one: a tuple or a frozen one takes a microsecond.
    """

    __slots__ = ("by_name", "fields", "method", "path", "target", "version")

    method: bytes
    version: str
    path: bytes
    """Without its query, decoded."""
    by_name: dict[bytes, bytes]
    """The first value of each field."""

    def __init__(self) -> None:
        self.target = b""
        """As it was sent."""
        self.fields: list[tuple[bytes, bytes]] = []
        """In their order, names in lower case."""

    @property
    def bytes_read(self) -> int:
        """Return its size, but for what the first line has beside the target."""
        return len(self.target) + sum(len(name) + len(value) + 4 for name, value in self.fields)


def too_large() -> ApiError:
    """Return the error for a head beyond its bounds."""
    message = f"The request's headers are larger than {BYTES_MAX} bytes or more than {FIELDS_MAX}."
    return ApiError(Code.HEADERS_TOO_LARGE, message)


def target_too_long() -> ApiError:
    """Return the error for a request target beyond its bound."""
    return ApiError(Code.TARGET_TOO_LONG, f"The request's path and query are longer than {TARGET_BYTES_MAX} bytes.")


def check_repeated(fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Pass a head in which nothing is repeated that may stand once; raise `InvalidRequest` for another."""
    counted = Counter(name for name, _ in fields if name in SINGLE)
    for name, times in counted.items():
        if times > 1:
            raise InvalidRequest(f"The header `{name.decode()}` stands twice.")


def forwarded(fields: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return all that proxies say of where the client is, as one field: each may add a line instead of a word."""
    told = [value for name, value in fields if name == FORWARDED_FOR]
    return {FORWARDED_FOR: b",".join(told)} if told else {}


def check_coding(version: str, coding: bytes) -> None:
    """Pass the one Transfer-Encoding that is taken; raise `InvalidRequest` for another."""
    if version == "1.0" or coding.lower() != b"chunked":
        raise InvalidRequest("The only Transfer-Encoding taken is `chunked`, in HTTP/1.1.")


@lru_cache(maxsize=1024)
def path(method: bytes, version: str, target: bytes, host: bytes | None) -> bytes:
    """
    Return the path of a head whose first line and host can be read in one way only.

    Raises: ApiError.
    """
    if version not in _VERSIONS:
        raise InvalidRequest("Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    if method not in _METHODS:
        raise MethodNotAllowed(known.decode() for known in _METHODS)
    _check_target(target)
    _check_host(version, host)
    path = target.partition(b"?")[0]
    return unquote_to_bytes(path) if b"%" in path else path


def _check_target(target: bytes) -> None:
    if not target.startswith(b"/"):
        raise InvalidRequest("The request target must be a path, without scheme and host.")
    path = target.partition(b"?")[0]
    if _ODD_PATH.search(path) or b"#" in target or (not path.startswith(_NAMES) and _ENCODED_SLASH.search(path)):
        raise InvalidRequest("The request's path must be written plainly: no empty or dot segments, nothing encoded.")


def _check_host(version: str, host: bytes | None) -> None:
    if host is None:
        if version == "1.1":
            raise InvalidRequest("The header `Host` is missing.")
    elif not _HOST.fullmatch(host):
        raise InvalidRequest("The header `Host` is not a host.")
