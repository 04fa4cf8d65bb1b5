"""
Secrets in files: read what the operator keeps, or make one where none is needed from him.

A made secret appears whole or not at all, readable by its owner only, and everyone who makes it at the same time ends
up with the same one: it is written aside and linked into place, which fails where a file stands already.
"""

import contextlib
import os
import secrets
from pathlib import Path

from proxy.fatal import Fatal
from proxy.redis.address import Access
from proxy.settings import Settings

BYTES_MIN = 32
"""Less could be guessed offline by whoever holds one signed token."""
_BYTES_MAX = 64 * 1024


class UnusableSecret(Fatal):
    """A secret's file cannot be read, made or trusted; the message names no content."""


def read(path: Path) -> bytes:
    """
    Return a file's content without the blank space around it.

    Raises: UnusableSecret.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise UnusableSecret(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > _BYTES_MAX:
        raise UnusableSecret(f"{path} is larger than {_BYTES_MAX} bytes")
    return content.strip()


def read_secret(path: Path) -> bytes:
    """
    Return a secret of at least `BYTES_MIN` bytes.

    Raises: UnusableSecret.
    """
    secret = read(path)
    if len(secret) < BYTES_MIN:
        raise UnusableSecret(f"{path} holds {len(secret)} bytes; a secret needs {BYTES_MIN} or more")
    return secret


def read_or_make(path: Path) -> bytes:
    """
    Return the secret in a file; the first caller makes it, 32 random bytes in hexadecimal, mode 0600.

    Raises: UnusableSecret.
    """
    try:
        if not path.exists():
            _make(path)
    except OSError as error:
        raise UnusableSecret(f"{path} cannot be made: {error.strerror}") from None
    return read_secret(path)


def cache_secret(settings: Settings) -> bytes:
    """
    Return the secret behind cache salts: the operator's, which must be there, or one of our own.

    Raises: UnusableSecret.
    """
    named = settings.routing.cache_secret_file
    return read_secret(named) if named else read_or_make(settings.cache_secret_file)


def redis_access(settings: Settings) -> Access:
    """
    Return what the config's Redis is shown: passwords as they stand in their files, and where certificates are.

    Raises: UnusableSecret.
    """
    redis = settings.redis
    return Access(
        password=_password(redis.password_file),
        sentinel_username=redis.sentinel_username or "",
        sentinel_password=_password(redis.sentinel_password_file),
        ca_file=redis.ca_file,
        cert_file=redis.cert_file,
        key_file=redis.key_file,
    )


def _password(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return read(path).decode()
    except UnicodeDecodeError:
        raise UnusableSecret(f"{path} is not UTF-8") from None


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(BYTES_MIN))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # someone was first: theirs counts
            os.link(aside, path)
    finally:
        aside.unlink()
