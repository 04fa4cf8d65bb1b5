"""
Where an issuer's key comes from.

A file, read once, or a set of keys that the issuer publishes (`published`). The verifier tells a source which key a
token names and by which algorithm it is signed, and knows no more about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
from jwt.exceptions import InvalidKeyError

from proxy.identity.secret_files import UnusableSecret, read, read_or_make, read_secret
from proxy.settings import ConfigError, ConfigFault, Settings
from proxy.settings.sections import Issuer

KEYS_TRIED_MAX = 4
"""Keys that are tried for one token: each that did not sign it costs a signature's check."""


@dataclass(slots=True, eq=False)
class VerifyingKey:
    """One key, and what it may verify. Its object is its identity: a cached token knows it by that."""

    material: Any
    """What PyJWT's algorithms prepared: bytes for HMAC, a public key object otherwise."""
    algorithms: frozenset[str]
    kid: str | None = None
    identity: tuple[Any, ...] = ()
    """What makes a key the same one after the next fetch, or the next look into its file."""
    retired: bool = False
    """Whether its issuer has it no longer: nothing that it verified counts any more."""


class KeySource(Protocol):
    """One issuer's keys."""

    async def keys(self, kid: str | None, algorithm: str) -> Sequence[VerifyingKey]:
        """
        Return the keys that may have signed a token with this header, `KEYS_TRIED_MAX` at most.

        Raises: KeysUnavailable when nobody can tell.
        """
        ...

    async def newer(self, kid: str | None, algorithm: str) -> Sequence[VerifyingKey]:
        """Return them once more, where there may be others by now: keys without an id change without a word."""
        ...

    def has(self, key: VerifyingKey) -> bool:
        """Tell whether a key is the issuer's as far as is known now."""
        ...


class FixedKey:
    """One key for all of an issuer's tokens."""

    def __init__(self, key: VerifyingKey) -> None:
        self.only = key

    async def keys(self, kid: str | None, algorithm: str) -> Sequence[VerifyingKey]:
        """Return the one key, whatever the header names."""
        return (self.only,)

    async def newer(self, kid: str | None, algorithm: str) -> Sequence[VerifyingKey]:
        """Return none: its file is read when the config is."""
        return ()

    def has(self, key: VerifyingKey) -> bool:
        """Tell whether it is this key."""
        return key is self.only


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
        raise ConfigError([ConfigFault(f"auth.issuers[{index}].key_file", str(error))]) from None
    return FixedKey(VerifyingKey(prepared[0], frozenset(issuer.algorithms), identity=(content,)))


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


def _prepared(content: bytes, name: str) -> Any:
    algorithm = jwt.get_algorithm_by_name(name)
    try:
        key = algorithm.prepare_key(content)
    except (InvalidKeyError, TypeError, ValueError):
        raise UnusableSecret(f"the key does not fit the algorithm {name}") from None
    if too_short := algorithm.check_key_length(key):
        raise UnusableSecret(too_short)
    return key
