from pathlib import Path
from typing import Any

import jwt
import pytest

from proxy.identity.keys import FixedKey, VerifyingKey
from proxy.identity.trusted import Forged, Trusted
from proxy.settings.sections import Claims, Issuer

KEY = VerifyingKey(b"0123456789abcdef" * 4, frozenset({"HS256", "HS512"}))
ISSUER = Issuer(
    issuer="i",
    algorithms=("HS256", "HS512"),
    key_file=Path("k"),
    claims=Claims(tenant="/org/id", user="/org/users/0"),
    scopes=("usage:read",),
)
TRUSTED = Trusted.of(ISSUER, FixedKey(KEY))


@pytest.mark.parametrize(
    ("said", "claimed"),
    [
        ({"org": {"id": "acme", "users": ["ada"]}}, ("i", "acme", "ada")),
        ({"org": {"id": "acme", "users": []}}, ("i", "acme", "")),
        ({"org": {"id": ["acme"], "users": [{"a": 1}]}}, ("i", "", "")),
        ({"iss": "other", "org": "acme"}, ("i", "", "")),
    ],
)
def test_whom_an_unverified_token_claims_to_speak_for_is_text_or_nobody(
    said: dict[str, Any], claimed: tuple[str, str, str]
) -> None:
    assert TRUSTED.claimed(said) == claimed


def test_a_key_judges_by_its_own_algorithms_alone() -> None:
    said = {"iss": "i", "aud": "tollway", "exp": 2**40}
    for algorithm in ("HS256", "HS512"):
        assert TRUSTED.decode(jwt.encode(said, KEY.material, algorithm), KEY, 0) == said
    narrow = VerifyingKey(KEY.material, frozenset({"HS512"}))
    with pytest.raises(Exception, match="algorithm that its issuer may not use"):
        TRUSTED.decode(jwt.encode(said, KEY.material, "HS256"), narrow, 0)
    with pytest.raises(Forged):
        TRUSTED.decode(jwt.encode(said, b"x" * 64, "HS256"), KEY, 0)
