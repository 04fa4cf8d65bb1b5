"""What a verifier remembers: good tokens while they are good, bad ones for a moment, who floods it with forged ones."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from proxy.catalog import Catalog
from proxy.errors import Code, InvalidToken, TooManyForgeries
from proxy.identity.cache import REFUSED_S
from proxy.identity.development import mint
from proxy.identity.forgeries import Forgeries
from proxy.identity.revocation import Revocation, RevocationKind, Revoked, RevokedSubject
from proxy.identity.tokens import Verifier
from proxy.settings import Settings
from proxy.settings.loading import parse

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now


@pytest.fixture
def settings(tmp_path: Path, minimal_config: str) -> Settings:
    return parse(f"{minimal_config}\nauth.leeway_s = 5", {}, folder=tmp_path)


@pytest.fixture
def revoked() -> Revoked:
    return Revoked()


@pytest.fixture
def verifier(settings: Settings, revoked: Revoked) -> Verifier:
    return Verifier.of(settings, Catalog.of(settings), revoked)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    monkeypatch.setattr(time, "time", turned.time)
    return turned


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tokens whose signature was checked."""
    seen, decode = list[str](), jwt.decode

    def noted(token: str, *args: Any, **options: Any) -> Any:
        seen.append(token)
        return decode(token, *args, **options)

    monkeypatch.setattr(jwt, "decode", noted)
    return seen


def forged(settings: Settings, user: str = "ada") -> str:
    token = mint(settings, tenant="acme", user=user)
    head, _, signature = token.rpartition(".")
    return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


async def outcome(verifier: Verifier, token: str, address: str = HERE) -> str:
    try:
        return (await verifier.verify(token, address)).user
    except (InvalidToken, TooManyForgeries) as error:
        return error.message


async def test_a_token_is_verified_once(settings: Settings, verifier: Verifier, decoded: list[str]) -> None:
    token = mint(settings, tenant="acme", user="ada")
    for _ in range(5):
        assert await outcome(verifier, token) == "ada"
    assert decoded == [token]


async def test_a_verified_token_needs_no_turn_of_the_event_loop(settings: Settings, verifier: Verifier) -> None:
    token = mint(settings, tenant="acme", user="ada")
    await verifier.verify(token)
    with pytest.raises(StopIteration) as done:
        verifier.verify(token).send(None)
    assert done.value.value.user == "ada"


async def test_a_token_is_looked_up_within_its_times_alone(
    settings: Settings, verifier: Verifier, *, decoded: list[str], clock: Clock
) -> None:
    """PyJWT has the real clock: what is looked up no longer is verified again, and found good by that."""
    begun = int(clock.now)
    token = mint(settings, tenant="acme", user="ada", ttl_s=60, now_s=begun)
    for after_s, verified in ((0, 1), (64.5, 1), (-5, 1), (65, 2), (64.5, 2), (-5.5, 3)):
        clock.now = begun + after_s
        assert await outcome(verifier, token) == "ada"
        assert len(decoded) == verified


async def test_a_bad_token_is_refused_unseen_for_a_moment(
    settings: Settings, verifier: Verifier, *, decoded: list[str], clock: Clock
) -> None:
    token = forged(settings)
    for _ in range(5):
        assert await outcome(verifier, token) == "The token's signature is wrong."
    assert len(decoded) == 1
    clock.now += REFUSED_S + 0.1
    assert await outcome(verifier, token) == "The token's signature is wrong."
    assert len(decoded) == 2


async def test_a_token_that_becomes_good_is_looked_at_again(settings: Settings, verifier: Verifier) -> None:
    token = mint(settings, tenant="acme", user="ada", now_s=int(time.time()) + 8)
    assert await outcome(verifier, token) == "The token is not valid yet."
    verifier._leeway_s = 10
    assert await outcome(verifier, token) == "ada"


@pytest.fixture
def revoke(revoked: Revoked) -> Callable[..., None]:
    def revoke(*subjects: RevokedSubject) -> None:
        revoked.replace([Revocation(subject, time.time_ns() // 1000) for subject in subjects])

    return revoke


@pytest.mark.parametrize("cached", [True, False])
async def test_a_revoked_token_is_refused_whether_it_was_seen_before_or_not(
    settings: Settings, verifier: Verifier, *, revoke: Callable[..., None], decoded: list[str], cached: bool
) -> None:
    token = mint(settings, tenant="acme", user="ada", now_s=int(time.time()) - 1)
    jti = jwt.decode(token, options={"verify_signature": False})["jti"]
    decoded.clear()
    if cached:
        assert await outcome(verifier, token) == "ada"
    for subject in (
        RevokedSubject(RevocationKind.USER, "ada", "acme"),
        RevokedSubject(RevocationKind.TENANT, "acme"),
        RevokedSubject(RevocationKind.JTI, jti, "dev"),
    ):
        revoke(subject)
        for _ in range(3):
            assert await outcome(verifier, token) == "The token was revoked."
        revoke()
        assert await outcome(verifier, token) == "ada"
    assert decoded == [token], "its signature stays checked"
    revoke(RevokedSubject(RevocationKind.USER, "bob", "acme"))
    assert await outcome(verifier, token) == "ada"


FEW_US_PER_S = 1e-3
"""Not enough for one check, but for the first of all."""


async def test_a_flood_of_forged_tokens_is_not_looked_at(
    settings: Settings, verifier: Verifier, decoded: list[str]
) -> None:
    verifier._forgeries = Forgeries(FEW_US_PER_S, late_s_max=0.01)
    cached = mint(settings, tenant="acme", user="cached")
    assert await outcome(verifier, cached) == "cached"
    decoded.clear()
    outcomes = [await outcome(verifier, forged(settings, user=f"u{number}")) for number in range(50)]
    assert outcomes[0] == "The token's signature is wrong."
    assert all(told.startswith("Too many tokens with a wrong signature") for told in outcomes[1:])
    assert len(decoded) == 1
    assert await outcome(verifier, cached) == "cached", "what is known passes"
    stranger = mint(settings, tenant="acme", user="stranger")
    with pytest.raises(TooManyForgeries) as caught:
        await verifier.verify(stranger, HERE)
    assert (caught.value.code, caught.value.status) == (Code.RATE_LIMIT_EXCEEDED, 429)
    assert caught.value.retry_after_s == 1


async def test_a_new_token_of_a_user_verified_lately_is_looked_at_in_any_flood(
    settings: Settings, verifier: Verifier
) -> None:
    verifier._forgeries = Forgeries(10_000, late_s_max=0.0)
    assert await outcome(verifier, mint(settings, tenant="acme", user="known")) == "known"
    tokens = (forged(settings, user=f"u{number}") for number in range(5_000))
    while not (await outcome(verifier, next(tokens))).startswith("Too many tokens with a wrong signature"):
        pass
    assert await outcome(verifier, mint(settings, tenant="acme", user="known", ttl_s=60)) == "known"


async def test_what_needs_no_signature_check_counts_for_nothing(settings: Settings, verifier: Verifier) -> None:
    verifier._forgeries = Forgeries(FEW_US_PER_S, late_s_max=0.01)
    for number in range(50):
        await outcome(verifier, f"{number}")
        await outcome(verifier, mint(settings, tenant="acme", user="ada", now_s=int(time.time()) - 10_000 - number))
        await outcome(verifier, mint(settings, tenant="initech", user=f"u{number}"))
    assert await outcome(verifier, mint(settings, tenant="acme", user="ada")) == "ada"


async def test_a_hundred_mistakes_of_an_honest_client_are_no_flood(settings: Settings, verifier: Verifier) -> None:
    outcomes = {await outcome(verifier, forged(settings, user=f"u{number}")) for number in range(100)}
    assert outcomes == {"The token's signature is wrong."}


async def test_how_long_a_token_may_be_is_the_configs_to_say(settings: Settings) -> None:
    longer = mint(settings, tenant="acme", user="ada", scopes=["a" * 100] * 64)
    for bytes_max, told in (
        (len(longer), "ada"),
        (len(longer) - 1, f"The token is longer than {len(longer) - 1} char"),
    ):
        auth = settings.auth.model_copy(update={"token_bytes_max": bytes_max})
        verifier = Verifier.of(settings.model_copy(update={"auth": auth}), Catalog.of(settings))
        assert (await outcome(verifier, longer)).startswith(told)
