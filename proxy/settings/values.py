"""The kinds of values that the sections are made of: names, addresses, paths, amounts, each with its bounds."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from policies.pricing import PRICE_MAX
from proxy.redis.address import Address

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _printable(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be printable and neither begin nor end with a space")
    return value


def _text_of_path(value: object) -> object:
    """Take a default, which is a Path already, the way a file's text is taken."""
    return str(value) if isinstance(value, Path) else value


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    folder: Path | None = info.context
    return folder / path if folder else path


def _pointer(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("must be a JSON pointer that begins with '/', such as /tenant")
    return value


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or parts.query or parts.fragment:
        raise ValueError("must look like http://host:port")
    if parts.username or parts.password:
        raise ValueError("must not carry credentials")
    if parts.path.strip("/"):
        raise ValueError("must end behind host:port: /v1 and all other paths are added to it")
    return value.rstrip("/")


def _redis_url(value: str) -> str:
    Address.of(value)
    return value


def published_url(value: object, beside: str = "") -> str:
    """
    Return a URL from which keys may be fetched: https, or http on the loopback for tests and development.

    A document from elsewhere than the loopback must not point at it: `beside` is what it speaks for.
    """
    if not isinstance(value, str) or len(value) > 2048 or not value.isascii() or not value.isprintable():
        raise ValueError("must look like https://host/path")
    parts, around = urlsplit(value), urlsplit(beside)
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not secure or not parts.hostname or parts.port == 0 or parts.fragment:
        raise ValueError("must look like https://host/path; plain http is for the loopback only")
    if parts.username or parts.password:
        raise ValueError("must not carry credentials")
    if beside and parts.hostname in _LOOPBACK and around.hostname not in _LOOPBACK:
        raise ValueError("must not point at the loopback")
    return value


Name = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
"""A name that also stands in a header of the answer."""
Domain = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$")]
"""A host as it is looked up: in lower case, in ASCII (`xn--...`), without a dot at its end."""
Group = Annotated[str, Field(max_length=128), AfterValidator(_printable)]
Location = Annotated[Path, Field(strict=False), BeforeValidator(_text_of_path), AfterValidator(_from_folder)]
Pointer = Annotated[str, Field(max_length=256), AfterValidator(_pointer)]
ScopeName = Annotated[str, Field(pattern=r"^[!#-\[\]-~]{1,128}$")]
"""A scope as OAuth writes it (RFC 6749, section 3.3): no space, no quote, no backslash."""
Port = Annotated[int, Field(ge=0, le=65535)]
Tokens = Annotated[int, Field(ge=0, lt=2**31)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Micros = Annotated[int, Field(ge=0, le=PRICE_MAX)]
Algorithm = Literal[
    "EdDSA", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "HS256", "HS384", "HS512"
]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
PublishedUrl = Annotated[str, AfterValidator(lambda value: published_url(value))]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
