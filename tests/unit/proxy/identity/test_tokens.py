import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog import Catalog
from proxy.errors import Code, InvalidToken
from proxy.identity.principal import Principal
from proxy.identity.tokens import Verifier
from proxy.settings.loading import parse

CONFIG = """
[auth]
leeway_s = 5

[[auth.issuers]]
issuer = "ed"
key_file = "ed.pem"
audience = "gateway"
claims = { tenant = "/https:~1~1x.example~1org/0/id", user = "/who", plan = "/tier", scopes = "/scp" }
scopes = ["usage:read", "admin"]

[[auth.issuers]]
issuer = "rsa"
key_file = "rsa.pem"
algorithms = ["RS256"]

[[auth.issuers]]
issuer = "hmac"
key_file = "hmac"
algorithms = ["HS256"]
scopes = ["a", "b"]

[plans]
pro = {}
free = {}

[tenants]
acme.plans = ["pro", "free"]
globex.plans = ["free"]

[[models]]
name = "m"
context_tokens = 1
replicas = [{ name = "r", url = "http://r" }]
"""

SECRET = b"0123456789abcdef0123456789abcdef"
DEEP = b'{"a":' * 1100
ED = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048)


def public_pem(private: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    folder: Path = tmp_path_factory.mktemp("keys")
    (folder / "ed.pem").write_bytes(public_pem(ED))
    (folder / "rsa.pem").write_bytes(public_pem(RSA))
    (folder / "hmac").write_bytes(SECRET + b"\n")
    config = parse(CONFIG, {}, folder=folder)
    return Verifier.of(config, Catalog.of(config))


def sign(key: Any = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    """Return a token of the HMAC issuer; a claim changed to None is left out."""
    said = {"iss": "hmac", "aud": "tollway", "exp": time.time() + 60, "tenant": "acme", "sub": "ada"} | changes
    return jwt.encode({name: value for name, value in said.items() if value is not None}, key, algorithm)


async def refusal(verifier: Verifier, token: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        await verifier.verify(token)
    assert caught.value.code is Code.INVALID_API_KEY
    return caught.value.message


async def test_a_sound_token_speaks_for_its_user(verifier: Verifier) -> None:
    assert await verifier.verify(sign()) == Principal("acme", "ada", "pro")
    assert await verifier.verify(sign(plan="free")) == Principal("acme", "ada", "free")
    assert await verifier.verify(sign(RSA, "RS256", iss="rsa", tenant="globex")) == Principal("globex", "ada", "free")


async def test_claims_are_found_where_the_config_says(verifier: Verifier) -> None:
    token = sign(
        ED,
        "EdDSA",
        iss="ed",
        aud=["other", "gateway"],
        sub=None,
        tenant="globex",
        who="bob",
        tier="free",
        scp=["usage:read", "admin"],
        **{"https://x.example/org": [{"id": "acme"}]},
    )
    assert await verifier.verify(token) == Principal("acme", "bob", "free", frozenset({"usage:read", "admin"}))


@pytest.mark.parametrize(
    ("scope", "scopes"), [("a b  a", {"a", "b"}), (["a", "b"], {"a", "b"}), ("", set()), ([], set()), (None, set())]
)
async def test_scopes_are_a_list_or_one_string(verifier: Verifier, scope: Any, scopes: set[str]) -> None:
    assert (await verifier.verify(sign(scope=scope))).scopes == scopes


async def test_a_scope_counts_only_where_the_config_lists_it_for_the_issuer(verifier: Verifier) -> None:
    assert (await verifier.verify(sign(scope="a usage:all b:c B"))).scopes == {"a"}
    assert (await verifier.verify(sign(RSA, "RS256", iss="rsa", scope="a b admin"))).scopes == set()


async def test_clocks_may_differ_by_the_leeway(verifier: Verifier) -> None:
    now = time.time()
    assert (await verifier.verify(sign(exp=now - 2, iat=now + 3, nbf=now + 3))).user == "ada"
    assert await refusal(verifier, sign(exp=now - 7)) == "The token has expired."
    assert await refusal(verifier, sign(nbf=now + 60)) == "The token is not valid yet."
    assert await refusal(verifier, sign(iat=now + 60)) == "The token is not valid yet."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exp": None}, "The token lacks `exp`, `iss` or `aud`."),
        ({"aud": None}, "The token lacks `exp`, `iss` or `aud`."),
        ({"iss": None}, "The token's issuer is not known here."),
        ({"iss": "evil"}, "The token's issuer is not known here."),
        ({"aud": "other"}, "The token was issued for another audience."),
        ({"tenant": None}, "The token names no tenant."),
        ({"tenant": "initech"}, "The token's tenant is not known here."),
        ({"sub": None}, "The token names no user."),
        ({"plan": "gold"}, "The token names a plan that its tenant does not have."),
        ({"tenant": "globex", "plan": "pro"}, "The token names a plan that its tenant does not have."),
        ({"exp": float("inf")}, "The token is malformed."),
        ({"exp": "soon"}, "The token is malformed."),
    ],
)
async def test_a_refusal_says_why(verifier: Verifier, changes: dict[str, Any], message: str) -> None:
    assert await refusal(verifier, sign(**changes)) == message


@pytest.mark.parametrize("value", ["", "x" * 129, "a\nb", "a\0b", "\ud800", 5, True, [], ["acme"], {"a": 1}, 0.5])
@pytest.mark.parametrize("claim", ["tenant", "sub", "plan"])
async def test_odd_names_are_refused(verifier: Verifier, claim: str, value: Any) -> None:
    assert "printable" in await refusal(verifier, sign(**{claim: value}))


@pytest.mark.parametrize("value", [" ", "  ", " ada", "ada ", "a b "])
@pytest.mark.parametrize("claim", ["tenant", "sub", "plan"])
async def test_names_are_without_blanks_around_them(verifier: Verifier, claim: str, value: str) -> None:
    assert "begins or ends with a blank" in await refusal(verifier, sign(**{claim: value}))


async def test_a_blank_within_a_name_is_part_of_it(verifier: Verifier) -> None:
    assert (await verifier.verify(sign(sub="Ada L"))).user == "Ada L"


@pytest.mark.parametrize("scope", [5, {"a": 1}, [1], ["a", None], ["\n"], "a " * 65 + "b " * 65, ["x" * 129]])
async def test_odd_scopes_are_refused(verifier: Verifier, scope: Any) -> None:
    assert "scope" in await refusal(verifier, sign(scope=scope))


def encode(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["none", "None", "HS512", "RS256", "EdDSA", "", 5, None, []])
async def test_a_header_chooses_no_algorithm(verifier: Verifier, algorithm: Any) -> None:
    header, payload, signature = sign().split(".")
    assert header
    for end in (signature, ""):
        await refusal(verifier, f"{encode({'alg': algorithm, 'typ': 'JWT'})}.{payload}.{end}")


async def test_a_public_key_is_no_shared_secret(verifier: Verifier) -> None:
    """The classic confusion: HMAC over the issuer's public PEM, which anyone may know."""
    said = {"iss": "rsa", "aud": "tollway", "exp": time.time() + 60, "tenant": "acme", "sub": "ada"}
    signed = f"{encode({'alg': 'HS256', 'typ': 'JWT'})}.{encode(said)}"
    mac = hmac.new(public_pem(RSA), signed.encode(), hashlib.sha256).digest()
    assert "algorithm" in await refusal(verifier, f"{signed}.{encode(mac)}")


async def test_one_issuer_cannot_speak_for_another(verifier: Verifier) -> None:
    assert (
        await refusal(verifier, sign(iss="rsa"))
        == "The token is signed by an algorithm that its issuer may not use here."
    )
    stranger = rsa.generate_private_key(65537, 2048)
    assert await refusal(verifier, sign(stranger, "RS256", iss="rsa")) == "The token's signature is wrong."


async def test_a_changed_claim_breaks_the_signature(verifier: Verifier) -> None:
    header, _, signature = sign(tenant="globex").split(".")
    _, payload, _ = sign(tenant="acme").split(".")
    assert await refusal(verifier, f"{header}.{payload}.{signature}") == "The token's signature is wrong."


async def test_a_token_is_at_most_8_kib(verifier: Verifier) -> None:
    length_max, exp = 8 * 1024, int(time.time()) + 60
    padding = "x"
    while len(sign(exp=exp, pad=padding)) < length_max - 1:
        padding += "x" * max(1, (length_max - len(sign(exp=exp, pad=padding))) // 2)
    assert (await verifier.verify(sign(exp=exp, pad=padding[:-4]))).user == "ada"
    assert "longer" in await refusal(verifier, sign(exp=exp, pad=padding + "xxxx"))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "a.b.c.d.e",
        "\ud800.\ud800.\ud800",
        f"{encode({'alg': 'HS256'})}.{encode([])}.x",
        f"{encode({'alg': 'HS256'})}.{encode(b'[' * 5000)}.x",
        f"{encode({'alg': 'HS256'})}.{encode(DEEP)}.x",
        f"{encode({'alg': 'HS256'})}.{encode({'iss': ['hmac']})}.x",
        f"{encode({'alg': 'HS256', 'crit': ['x'], 'x': 1})}.{encode({'iss': 'hmac'})}.x",
        f"{encode({'alg': 'HS256', 'b64': False})}.{encode({'iss': 'hmac'})}.x",
    ],
)
async def test_malformed_tokens_are_invalid_tokens(verifier: Verifier, token: str) -> None:
    await refusal(verifier, token)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")) | st.lists(st.text(), min_size=3).map(".".join))
async def test_no_text_raises_anything_else(verifier: Verifier, token: str) -> None:
    message = await refusal(verifier, token)
    assert len(token) < 8 or token not in message


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "crit", "typ", "b64", "jku"]), _JSON | st.sampled_from(["HS256", "none"])
    ),
    st.dictionaries(
        st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "tenant"]),
        _JSON | st.sampled_from(["hmac", "rsa", "ed"]),
    ),
    st.binary(max_size=40),
)
async def test_no_forged_token_is_anything_but_invalid(
    verifier: Verifier, header: dict[str, Any], said: dict[str, Any], signature: bytes
) -> None:
    await refusal(verifier, f"{encode(header)}.{encode(said)}.{encode(signature)}")


@given(st.dictionaries(st.sampled_from(["nbf", "iat", "jti", "sub", "tenant", "plan", "scope", "exp", "aud"]), _JSON))
async def test_no_signed_claims_raise_anything_else(verifier: Verifier, changes: dict[str, Any]) -> None:
    said = {"iss": "hmac", "aud": "tollway", "exp": time.time() + 60, "tenant": "acme", "sub": "ada"} | changes
    signed = f"{encode({'alg': 'HS256', 'typ': 'JWT'})}.{encode(said)}"
    algorithm = jwt.get_algorithm_by_name("HS256")
    try:
        principal = await verifier.verify(f"{signed}.{encode(algorithm.sign(signed.encode(), SECRET))}")
    except InvalidToken:
        return
    assert principal.tenant in ("acme", "globex")
