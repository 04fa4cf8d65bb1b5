import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from proxy.identity.keys import from_file
from proxy.settings import ConfigError
from proxy.settings.loading import parse

Private = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
ED, RSA, EC = (
    ed25519.Ed25519PrivateKey.generate(),
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
)


def public(key: Private) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def private(key: Private) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load(folder: Path, minimal_config: str, content: bytes, *algorithms: str) -> None:
    (folder / "key").write_bytes(content)
    issuer = f'algorithms = {list(algorithms)}, key_file = "key"'
    text = minimal_config.replace('algorithms = ["HS256"], development = true', issuer)
    [key] = asyncio.run(from_file(parse(text, {}, folder=folder), 0).keys("any", algorithms[0]))
    assert key.algorithms == set(algorithms)


@pytest.mark.parametrize(
    ("content", "algorithms"),
    [
        (public(ED), ["EdDSA"]),
        (public(EC), ["ES256"]),
        (public(RSA), ["RS256", "PS512"]),
        (b"s" * 64, ["HS256", "HS512"]),
    ],
)
def test_a_key_that_fits_is_taken(tmp_path: Path, minimal_config: str, content: bytes, algorithms: list[str]) -> None:
    load(tmp_path, minimal_config, content, *algorithms)


@pytest.mark.parametrize(
    ("content", "algorithms", "message"),
    [
        (public(RSA), ["EdDSA"], "does not fit the algorithm EdDSA"),
        (public(ED), ["RS256"], "does not fit the algorithm RS256"),
        (public(RSA), ["RS256", "ES256"], "does not fit the algorithm ES256"),
        (public(EC), ["ES384"], "does not fit the algorithm ES384"),
        (public(RSA), ["HS256"], "does not fit the algorithm HS256"),
        (public(rsa.generate_private_key(65537, 1024)), ["RS256"], "1024"),
        (private(ED), ["EdDSA"], "holds a private key"),
        (b"no key at all", ["EdDSA"], "does not fit"),
        (b"", ["EdDSA"], "does not fit"),
        (b"short", ["HS256"], "holds 5 bytes"),
        (b"s" * 32, ["HS512"], "32 bytes"),
    ],
)
def test_a_key_that_is_unsafe_stops_the_start(
    *, tmp_path: Path, minimal_config: str, content: bytes, algorithms: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, minimal_config, content, *algorithms)
    assert [fault.path for fault in caught.value.faults] == ["auth.issuers[0].key_file"]
    assert content.decode() == "" or content.decode() not in str(caught.value)
