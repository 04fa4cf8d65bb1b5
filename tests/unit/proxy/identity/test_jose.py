"""Hostile tokens against a verifier with an HMAC, an RSA and an EC issuer: all refused, none by an accident of ours."""

import asyncio
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy.catalog import Catalog
from proxy.errors import Code, InvalidToken
from proxy.identity.jose import LEVELS_MAX, read_object, take_apart
from proxy.identity.tokens import Verifier
from proxy.settings.loading import parse
from tests.issuer import Signer
from tests.unit.proxy.identity.hostile import LONG_S, Forger

CONFIG = """
auth.issuers = [
    { issuer = "hmac", key_file = "hmac", algorithms = ["HS256"] },
    { issuer = "rsa", key_file = "rsa.pem", algorithms = ["RS256"] },
    { issuer = "es", key_file = "es.pem", algorithms = ["ES256"] },
]
models = [{ name = "m", context_tokens = 1000, replicas = [{ name = "r", url = "http://r:8000" }] }]
plans.pro = {}
tenants.acme.plans = ["pro"]
"""
SECRET = b"0123456789abcdef0123456789abcdef"
RSA, ES = Signer.of("RS256"), Signer.of("ES256")


def pem(signer: Signer) -> bytes:
    content: bytes = signer.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return content


FORGER = Forger(SECRET, ES, pem(RSA))
HOSTILE = dict(FORGER.tokens())


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    folder: Path = tmp_path_factory.mktemp("keys")
    for name, content in (("hmac", SECRET), ("rsa.pem", pem(RSA)), ("es.pem", pem(ES))):
        (folder / name).write_bytes(content)
    settings = parse(CONFIG, {}, folder=folder)
    return Verifier.of(settings, Catalog.of(settings))


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) > 250


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_token_is_an_invalid_one(verifier: Verifier, what: str) -> None:
    token = HOSTILE[what]
    for _ in range(2):
        with pytest.raises(InvalidToken) as caught:
            await verifier.verify(token)
        assert caught.value.code is Code.INVALID_API_KEY
        assert len(token) < 8 or token not in caught.value.message


@pytest.mark.parametrize(
    "kid",
    ["../../dev/null", "' OR 1=1 --", "a\0b", "/etc/passwd", "|sleep 5", "x" * 256, "", "\ud800", "🙂", "__class__"],
)
async def test_a_key_id_is_a_name_and_nothing_else(verifier: Verifier, kid: str) -> None:
    assert (await verifier.verify(FORGER.headed(kid=kid))).user == "ada"


@pytest.mark.parametrize(
    "header", [{"jku": "http://127.0.0.1:1/"}, {"x5u": "file:///"}, {"jwk": {}}, {"x5c": [5]}, {"b64": True}]
)
async def test_what_a_header_points_at_is_not_looked_at(verifier: Verifier, header: dict[str, object]) -> None:
    assert (await verifier.verify(FORGER.headed(**header))).user == "ada"


@pytest.mark.parametrize(
    "times", [{"exp": time.time() + LONG_S + 0.5}, {"iat": 0}, {"nbf": 1.5, "iat": 2}, {"exp": 2**53 - 1}]
)
async def test_times_are_any_plain_numbers(verifier: Verifier, times: dict[str, float]) -> None:
    assert (await verifier.verify(FORGER.signed(FORGER.claims(**times)))).user == "ada"


async def test_good_tokens_pass_among_them(verifier: Verifier) -> None:
    """Nothing that was refused leaves anything behind, for this user or any other."""
    tokens = [FORGER.signed(FORGER.claims(sub=str(number))) for number in range(50)]
    outcomes = await asyncio.gather(*map(verifier.verify, [*HOSTILE.values(), *tokens]), return_exceptions=True)
    assert all(isinstance(outcome, InvalidToken) for outcome in outcomes[: len(HOSTILE)])
    assert [getattr(outcome, "user", None) for outcome in outcomes[len(HOSTILE) :]] == [str(n) for n in range(50)]
    assert (await verifier.verify(ES.sign("es"))).user == "ada"
    assert (await verifier.verify(RSA.sign("rsa"))).user == "ada"


def test_what_is_read_is_told_before_anything_is_believed() -> None:
    read = take_apart(FORGER.headed(kid="k", typ="at+jwt"), 8_192)
    assert (read.algorithm, read.kid, read.claims["sub"]) == ("HS256", "k", "ada")


@pytest.mark.parametrize("text", [b"", b"[]", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff", b'{"a":' + b"[" * 100_000])
def test_an_object_is_read_strictly(text: bytes) -> None:
    with pytest.raises(ValueError):
        read_object(text)


@pytest.mark.parametrize(("opens", "closes"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_as_many_levels_are_read_as_are_promised_on_every_python(opens: bytes, closes: bytes) -> None:
    def nested(levels: int) -> bytes:
        inner = levels - 2  # the object around them and the number within are two
        return b'{"x":' + opens * inner + b"1" + closes * inner + b"}"

    assert read_object(nested(LEVELS_MAX))
    for levels in (LEVELS_MAX + 1, 5_000):
        with pytest.raises(ValueError, match="deep"):
            read_object(nested(levels))
