"""
A set of keys that an issuer publishes (JWKS, RFC 7517): which of them may verify which algorithms.

A key is passed over, never repaired, when it is not for signatures, does not fit any algorithm of the issuer, is a
shared secret or a private key, or is too weak. What is passed over verifies nothing; the rest of the set counts.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from proxy.identity.jose import KID_LENGTH_MAX
from proxy.identity.keys import KEYS_TRIED_MAX, VerifyingKey

KEYS_MAX = 100
_RSA_BITS_MAX = 8192
"""A larger one takes milliseconds for each signature, which anyone may send."""
_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_PUBLIC = ("kid", "kty", "crv", "n", "e", "x", "y")
_PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))


class UnusableKeys(Exception):
    """A document is no set of keys, or none of them can be used; the message says which."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """What an issuer publishes now."""

    keys: tuple[VerifyingKey, ...] = ()

    def knows(self, kid: str | None) -> bool:
        """Tell whether a key of this set has this id."""
        return any(key.kid == kid for key in self.keys)

    def find(self, kid: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """
        Return the keys that may have signed a token with this id: those of the id, else those without one.

        For a token that names none they are all that fit its algorithm. Bounds: `KEYS_TRIED_MAX`, the first of the set.
        """
        fitting = [key for key in self.keys if algorithm in key.algorithms]
        named = [key for key in fitting if kid in (None, key.kid)]
        return tuple(named or [key for key in fitting if key.kid is None])[:KEYS_TRIED_MAX]

    def instead_of(self, old: "KeySet") -> "KeySet":
        """Return this set with the keys that `old` had as they were; those it has no longer are retired."""
        gone = {(key.identity, key.algorithms): key for key in old.keys}
        keys = tuple(gone.pop((key.identity, key.algorithms), key) for key in self.keys)
        for key in gone.values():
            key.retired = True
        return KeySet(keys)


def read_keys(document: Mapping[str, Any], algorithms: Collection[str]) -> KeySet:
    """
    Return the keys in a document that fit some of an issuer's algorithms.

    Raises: UnusableKeys, also when there is not one such key: an empty answer is taken for a fault of the endpoint,
    because believing it would lock out everybody.
    Bounds: 100 keys.
    """
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > KEYS_MAX:
        raise UnusableKeys(f"it has no list of at most {KEYS_MAX} keys")
    found = [key for entry in entries if (key := _key(entry, algorithms)) is not None]
    if not found:
        raise UnusableKeys("it has no key that fits the issuer's algorithms")
    return KeySet(tuple(found))


def _key(entry: Any, algorithms: Collection[str]) -> VerifyingKey | None:
    if not isinstance(entry, dict) or not _for_signatures(entry):
        return None
    named = entry.get("alg")
    fitting = {
        name: material
        for name in algorithms
        if named in (None, name) and (material := _material(entry, name)) is not None
    }
    if not fitting:
        return None
    identity = tuple(entry.get(member) for member in _PUBLIC)
    return VerifyingKey(next(iter(fitting.values())), frozenset(fitting), kid=entry.get("kid"), identity=identity)


def _for_signatures(entry: Mapping[str, Any]) -> bool:
    kid, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    return (
        (kid is None or (isinstance(kid, str) and len(kid) <= KID_LENGTH_MAX))
        and entry.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and not _PRIVATE & entry.keys()
        and all(isinstance(entry.get(member, ""), str) for member in _PUBLIC[1:])
    )


def _material(entry: Mapping[str, Any], name: str) -> Any:
    """Return the public key for one algorithm; None where it does not fit."""
    if entry.get("kty") != _KINDS.get(name[:2]):
        return None
    algorithm = jwt.get_algorithm_by_name(name)
    try:
        key = algorithm.prepare_key(algorithm.from_jwk(dict(entry)))
    except Exception:  # noqa: BLE001 - whatever a parser does with a broken key, the key is passed over
        return None
    too_large = isinstance(key, RSAPublicKey) and key.key_size > _RSA_BITS_MAX
    return None if too_large or algorithm.check_key_length(key) else key
