from typing import Any

import pytest

from proxy.identity.jwks import KEYS_MAX, KeySet, UnusableKeys, read_keys
from tests.issuer import ALGORITHMS, Signer

RSA, EC, ED = Signer.of("RS256", "rsa"), Signer.of("ES256", "ec"), Signer.of("EdDSA", "ed")
ALL = {signer.kid: signer for signer in (RSA, EC, ED)}


def read(*entries: Any, algorithms: tuple[str, ...] = ALGORITHMS) -> KeySet:
    return read_keys({"keys": list(entries)}, algorithms)


def test_a_key_is_found_by_its_id() -> None:
    keys = read(*(signer.jwk() for signer in ALL.values()))
    for kid, signer in ALL.items():
        [key] = keys.find(kid, signer.algorithm)
        assert (key.kid, set(key.algorithms)) == (kid, {signer.algorithm})
    assert not keys.find("rsa", "ES256")
    assert not keys.find("RSA", "RS256")


@pytest.mark.parametrize(
    ("signer", "fitting"),
    [
        (RSA, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (EC, {"ES256"}),
        (Signer.of("ES384"), {"ES384"}),
        (Signer.of("ES512"), {"ES512"}),
        (ED, {"EdDSA"}),
        (Signer.of("Ed448"), {"EdDSA"}),
    ],
    ids=lambda value: getattr(value, "kid", ""),
)
def test_a_key_that_names_no_algorithm_may_verify_those_of_the_config_that_fit(
    signer: Signer, fitting: set[str]
) -> None:
    [key] = read(signer.jwk(alg=None)).keys
    assert key.algorithms == fitting
    [key] = read(signer.jwk(alg=None), algorithms=tuple(sorted(fitting)[:1])).keys
    assert key.algorithms == set(sorted(fitting)[:1])


def oct_key(**changes: Any) -> dict[str, Any]:
    return {
        "kty": "oct",
        "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA",
        "kid": "shared",
        "alg": "HS256",
    } | changes


UNUSABLE: dict[str, Any] = {
    "for encryption": EC.jwk(use="enc"),
    "not for verifying": EC.jwk(key_ops=["sign"]),
    "odd operations": EC.jwk(key_ops="verify"),
    "no kind": EC.jwk(kty=None),
    "odd kind": EC.jwk(kty=["EC"]),
    "another algorithm": EC.jwk(alg="ES384"),
    "encryption algorithm": RSA.jwk(alg="RSA-OAEP-256"),
    "odd algorithm": EC.jwk(alg=["ES256"]),
    "no point": EC.jwk(x=None),
    "a point off the curve": EC.jwk(x=EC.jwk()["y"]),
    "another curve": EC.jwk(crv="P-384"),
    "Bitcoin's curve": EC.jwk(crv="secp256k1"),
    "for key agreement": ED.jwk(crv="X25519"),
    "not base64": ED.jwk(x="?"),
    "a number for text": RSA.jwk(n=5),
    "odd id": EC.jwk(kid=7),
    "long id": EC.jwk(kid="x" * 257),
    "private RSA": RSA.jwk(private=True),
    "private EC": EC.jwk(private=True),
    "private Ed25519": ED.jwk(private=True),
    "weak RSA": Signer.of("RS256", bits=1024).jwk(),
    "shared secret": oct_key(),
    "shared secret that calls itself public": oct_key(alg="RS256"),
    "public key with a secret in it": RSA.jwk(k=oct_key()["k"]),
    "text": "key",
    "nothing": None,
}


@pytest.mark.parametrize("why", UNUSABLE)
def test_a_key_that_must_not_verify_is_passed_over_and_the_rest_counts(why: str) -> None:
    with pytest.raises(UnusableKeys, match="no key that fits"):
        read(UNUSABLE[why], algorithms=(*ALGORITHMS, "HS256"))
    [key] = read(UNUSABLE[why], ED.jwk(kid="good")).keys
    assert key.kid == "good"


def test_an_rsa_key_that_would_take_milliseconds_is_passed_over() -> None:
    huge = "_" * 1400  # 8,400 bits
    with pytest.raises(UnusableKeys):
        read(RSA.jwk(n=huge))


@pytest.mark.parametrize(
    "document", [{}, {"keys": []}, {"keys": {}}, {"keys": None}, {"keys": [ED.jwk()] * (KEYS_MAX + 1)}]
)
def test_a_document_that_is_no_set_of_keys_is_a_fault(document: dict[str, Any]) -> None:
    with pytest.raises(UnusableKeys):
        read_keys(document, ALGORITHMS)


def test_a_hundred_keys_are_read() -> None:
    assert len(read(*(ED.jwk(kid=str(number)) for number in range(KEYS_MAX))).keys) == KEYS_MAX


def test_a_token_without_a_key_id_may_be_signed_by_any_key_that_fits() -> None:
    keys = read(RSA.jwk(), ED.jwk())
    [key] = keys.find(None, "EdDSA")
    assert key.kid == "ed"
    assert [key.kid for key in read(ED.jwk(kid="a"), ED.jwk(kid="b")).find(None, "EdDSA")] == ["a", "b"]


def test_two_keys_of_one_id_are_both_tried() -> None:
    keys = read(ED.jwk(kid="same"), Signer.of("EdDSA", "same").jwk(), EC.jwk(kid="same"))
    assert len(keys.find("same", "EdDSA")) == 2
    assert len(keys.find("same", "ES256")) == 1


def test_keys_without_an_id_are_tried_for_a_token_that_names_one_no_key_has() -> None:
    bare = [{name: value for name, value in signer.jwk().items() if name != "kid"} for signer in (ED, RSA)]
    keys = read(*bare, ED.jwk(kid="named"))
    assert [key.kid for key in keys.find("named", "EdDSA")] == ["named"]
    assert [key.kid for key in keys.find("other", "EdDSA")] == [None]


def test_at_most_four_keys_are_tried() -> None:
    assert len(read(*(Signer.of("EdDSA", "same").jwk() for _ in range(10))).find("same", "EdDSA")) == 4


def test_the_next_set_keeps_the_same_keys_and_retires_the_others() -> None:
    old = read(RSA.jwk(), EC.jwk(), ED.jwk())
    stayed, replaced, gone = old.keys
    new = read(RSA.jwk(), Signer.of("ES256", "ec").jwk()).instead_of(old)
    assert new.find("rsa", "RS256") == (stayed,)
    assert new.find("ec", "ES256") != (replaced,)
    assert [key.retired for key in old.keys] == [False, True, True]
    assert not any(key.retired for key in new.keys)
    assert gone.retired


def test_a_key_that_may_do_something_else_now_is_another_key() -> None:
    old = read(RSA.jwk(alg="RS256"))
    new = read(RSA.jwk(alg="PS256")).instead_of(old)
    assert old.keys[0].retired
    assert not new.find("rsa", "RS256")
