"""
Where an issuer's key comes from.

A file today. A set of keys that an issuer publishes (JWKS) is another `KeySource`: the header tells it which key a
token wants, and that is all the verifier knows about it.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import jwt
from jwt.exceptions import InvalidKeyError

from proxy.identity.secret_files import UnusableSecret, read, read_or_make, read_secret
from proxy.settings import ConfigError, Fault, Settings
from proxy.settings.sections import Issuer

Key = Any
"""What PyJWT's algorithms prepared: bytes for HMAC, a public key object otherwise."""


class KeySource(Protocol):
    """One issuer's keys."""

    async def key(self, header: Mapping[str, Any]) -> Key | None:
        """Return the key that a token with this header is signed by; None when there is none."""
        ...


class FixedKey:
    """One key for all of an issuer's tokens."""

    def __init__(self, key: Key) -> None:
        self._key = key

    async def key(self, header: Mapping[str, Any]) -> Key:
        """Return the one key, whatever `kid` the header names."""
        return self._key


def from_file(settings: Settings, index: int) -> FixedKey:
    """
    Load the key of `settings.auth.issuers[index]`, and see that it fits every algorithm it may be used with.

    Raises: ConfigError.
    """
    issuer = settings.auth.issuers[index]
    try:
        content = _content(settings, issuer)
        prepared = [_prepared(content, algorithm) for algorithm in issuer.algorithms]
    except UnusableSecret as error:
        raise ConfigError([Fault(f"auth.issuers[{index}].key_file", str(error))]) from None
    return FixedKey(prepared[0])


def _content(settings: Settings, issuer: Issuer) -> bytes:
    path = settings.key_file(issuer)
    if issuer.development:
        return read_or_make(path)
    if issuer.algorithms[0].startswith("HS"):
        return read_secret(path)
    content = read(path)
    if b"PRIVATE KEY" in content:
        raise UnusableSecret(f"{path} holds a private key: give the gateway the public one")
    return content


def _prepared(content: bytes, name: str) -> Key:
    algorithm = jwt.get_algorithm_by_name(name)
    try:
        key = algorithm.prepare_key(content)
    except (InvalidKeyError, TypeError, ValueError):
        raise UnusableSecret(f"the key does not fit the algorithm {name}") from None
    if too_short := algorithm.check_key_length(key):
        raise UnusableSecret(too_short)
    return key
