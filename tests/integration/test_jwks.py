"""Keys that an issuer publishes, over real HTTP: fetched within bounds, found by discovery, rotated, withdrawn."""

import asyncio
import gzip
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jwt
import pytest

from proxy.catalog import Catalog
from proxy.errors import InvalidToken, KeysUnavailable
from proxy.identity.fetch import BODY_BYTES_MAX, Fetcher, FetchFailed
from proxy.identity.principal import Principal
from proxy.identity.tokens import Verifier
from proxy.settings.loading import parse
from tests.issuer import ALGORITHMS, DISCOVERY, JWKS, Answer, Provider, Signer, provider, wait_until

CONFIG = """
auth.issuers = [{ issuer = "ISSUER", algorithms = ALGORITHMS, KEYS }]
models = [{ name = "m", context_tokens = 1000, replicas = [{ name = "r", url = "http://r:8000" }] }]
plans.pro = {}
tenants.acme.plans = ["pro"]
"""
ADA = Principal("acme", "ada", "pro")
FOUND = ["discovery = true", f'jwks_url = "ISSUER{JWKS}"']


@pytest.fixture
def idp() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
async def fetch() -> AsyncIterator[Fetcher]:
    async with Fetcher() as opened:
        yield opened


def verifier(idp: Provider, keys: str = FOUND[0], algorithms: tuple[str, ...] = ALGORITHMS) -> Verifier:
    config = CONFIG.replace("KEYS", keys).replace("ALGORITHMS", json.dumps(algorithms)).replace("ISSUER", idp.url)
    settings = parse(config, {})
    return Verifier.of(settings, Catalog.of(settings))


@pytest.mark.parametrize("keys", FOUND)
@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "Ed448"])
async def test_every_algorithm_is_verified_by_a_published_key(idp: Provider, keys: str, algorithm: str) -> None:
    signer, stranger = Signer.of(algorithm), Signer.of(algorithm)
    idp.publish(signer.jwk())
    async with verifier(idp, keys) as verify:
        token = signer.sign(idp.url)
        assert await verify.verify(token) == ADA
        assert await verify.verify(token) == ADA
        with pytest.raises(InvalidToken, match="signature is wrong"):
            await verify.verify(stranger.sign(idp.url))
    assert idp.asked[JWKS] == 1


async def test_a_rotated_key_works_at_once_and_tokens_of_the_withdrawn_one_die_in_the_cache(idp: Provider) -> None:
    old, new = Signer.of("ES256", "old"), Signer.of("ES256", "new")
    idp.publish(old.jwk())
    async with verifier(idp) as verify:
        cached = old.sign(idp.url)
        assert await verify.verify(cached) == ADA
        idp.publish(old.jwk(), new.jwk())
        assert await verify.verify(new.sign(idp.url)) == ADA
        assert await verify.verify(cached) == ADA
    async with verifier(idp) as verify:
        assert await verify.verify(cached) == ADA
        newest = Signer.of("ES256", "newest")
        idp.publish(new.jwk(), newest.jwk())
        assert await verify.verify(cached) == ADA, "nobody has told yet"
        assert await verify.verify(newest.sign(idp.url)) == ADA
        with pytest.raises(InvalidToken, match="signed by a key that its issuer does not have"):
            await verify.verify(cached)


def unnamed(signer: Signer) -> dict[str, Any]:
    return {name: value for name, value in signer.jwk().items() if name != "kid"}


def signed(signer: Signer, idp: Provider) -> str:
    """Return a token that does not say by which key it is signed."""
    claims = jwt.decode(signer.sign(idp.url), options={"verify_signature": False})
    return jwt.encode(claims, signer.private, signer.algorithm)


async def test_keys_without_an_id_all_verify_and_rotate_at_once(idp: Provider) -> None:
    old, new, newest = (Signer.of("ES256") for _ in range(3))
    idp.publish(unnamed(old), unnamed(new))
    async with verifier(idp) as verify:
        for signer in (old, new, old):
            assert await verify.verify(signed(signer, idp)) == ADA
        cached = signed(old, idp)
        assert await verify.verify(cached) == ADA
        idp.publish(unnamed(new), unnamed(newest))
        assert await verify.verify(signed(newest, idp)) == ADA
        with pytest.raises(InvalidToken):
            await verify.verify(cached)


async def test_of_many_keys_without_an_id_four_are_tried(idp: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[object] = []
    decode = jwt.decode

    def noted(*args: Any, **options: Any) -> Any:
        checked.append(args)
        return decode(*args, **options)

    signers = [Signer.of("ES256") for _ in range(10)]
    forged = [signed(Signer.of("ES256"), idp) for _ in range(2)]
    idp.publish(*map(unnamed, signers))
    async with verifier(idp) as verify:
        assert await verify.verify(signed(signers[3], idp)) == ADA
        monkeypatch.setattr(jwt, "decode", noted)
        for token in forged:
            with pytest.raises(InvalidToken, match="signature is wrong"):
                await verify.verify(token)
        assert len(checked) == 8


async def test_an_issuer_that_is_away_holds_up_no_start_and_its_tokens_cannot_be_judged(idp: Provider) -> None:
    signer = Signer.of("EdDSA")
    idp.fail(503)
    async with verifier(idp) as verify:
        with pytest.raises(KeysUnavailable) as caught:
            await verify.verify(signer.sign(idp.url))
        assert (caught.value.status, caught.value.retry_after_s) == (503, 10)
        with pytest.raises(InvalidToken, match="issuer is not known"):
            await verify.verify(signer.sign("https://elsewhere"))


async def test_a_token_signed_by_what_the_header_brings_or_points_at_is_forged(idp: Provider) -> None:
    signer, forger = Signer.of("RS256", "good"), Signer.of("RS256", "good")
    idp.publish(signer.jwk())
    idp.answers["/evil"] = Answer(json.dumps({"keys": [forger.jwk()]}).encode())
    async with verifier(idp) as verify:
        for header in ({"jku": f"{idp.url}/evil"}, {"x5u": f"{idp.url}/evil"}, {"jwk": forger.jwk()}, {"x5c": ["MII"]}):
            with pytest.raises(InvalidToken, match="signature is wrong"):
                await verify.verify(forger.sign(idp.url, header=header))
            assert await verify.verify(signer.sign(idp.url, header=header)) == ADA, (
                "an honest one is merely not followed"
            )
    assert idp.asked["/evil"] == 0


async def test_a_key_verifies_no_other_algorithm_than_it_names(idp: Provider) -> None:
    signer = Signer.of("RS256")
    idp.publish(signer.jwk())
    async with verifier(idp, algorithms=("RS256", "PS256")) as verify:
        for algorithm, message in (("RS512", "algorithm"), ("PS256", "key that its issuer does not have")):
            with pytest.raises(InvalidToken, match=message):
                await verify.verify(Signer("RS256", algorithm, signer.private).sign(idp.url))


@pytest.mark.parametrize(
    "about",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": 5},
        {"jwks_uri": "ftp://127.0.0.1/keys"},
        {"jwks_uri": "http://idp.example/keys"},
        {"jwks_uri": "https://user:password@idp.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
    ],
    ids=str,
)
async def test_a_discovery_document_that_speaks_for_another_or_points_astray_is_a_fault(
    idp: Provider, about: dict[str, object]
) -> None:
    signer = Signer.of("EdDSA")
    idp.publish(signer.jwk())
    said = {"issuer": idp.url, "jwks_uri": idp.url + JWKS} | about
    idp.answers[DISCOVERY] = Answer(json.dumps(said).encode())
    async with verifier(idp) as verify:
        with pytest.raises(KeysUnavailable):
            await verify.verify(signer.sign(idp.url))
    assert idp.asked[JWKS] == 0


BODY = json.dumps({"keys": []}).encode()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(status=404), "status 404"),
        (Answer(status=302, headers={"location": "/elsewhere"}), "status 302"),
        (Answer(status=204), "status 204"),
        (Answer(b" " * (BODY_BYTES_MAX - 1) + b"{}"), "larger than 262144"),
        (Answer(gzip.compress(BODY), headers={"content-encoding": "gzip"}), "compressed"),
        (Answer(b"[]"), "not one JSON object"),
        (Answer(b""), "not one JSON object"),
        (Answer(b"\xff"), "not one JSON object"),
        (Answer(b'{"keys": NaN}'), "not one JSON object"),
        (Answer(b'{"keys": [], "keys": []}'), "not one JSON object"),
        (Answer(b'{"keys":' + b"[" * 100_000), "not one JSON object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_answer_out_of_bounds_is_a_fault(idp: Provider, fetch: Fetcher, answer: Answer, why: str) -> None:
    idp.answers[JWKS] = answer
    idp.answers["/elsewhere"] = Answer(BODY)
    with pytest.raises(FetchFailed, match=why):
        await fetch(idp.url + JWKS)
    assert idp.asked["/elsewhere"] == 0


async def test_cookies_are_neither_kept_nor_sent(idp: Provider, fetch: Fetcher) -> None:
    idp.answers[JWKS] = Answer(BODY, headers={"set-cookie": "session=1; path=/"})
    for _ in range(2):
        await fetch(idp.url + JWKS)
    assert idp.cookies == []


async def test_the_largest_answer_is_read(idp: Provider, fetch: Fetcher) -> None:
    idp.answers[JWKS] = Answer(b" " * (BODY_BYTES_MAX - 2) + b"{}")
    assert (await fetch(idp.url + JWKS)).content == {}


@pytest.mark.parametrize(
    ("header", "max_age_s"),
    [
        ("max-age=60", 60),
        ("public, Max-Age=3600, must-revalidate", 3600),
        ("s-maxage=5", None),
        ("x-max-age=5", None),
        ("max-age=soon", None),
        ("no-store", None),
        ("max-age=99999999999999999999", None),
    ],
)
async def test_the_time_to_keep_is_read(idp: Provider, fetch: Fetcher, header: str, max_age_s: int | None) -> None:
    idp.answers[JWKS] = Answer(BODY, headers={"cache-control": header})
    assert (await fetch(idp.url + JWKS)).max_age_s == max_age_s


async def test_a_server_that_is_not_there_is_a_fault(fetch: Fetcher) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(FetchFailed, match="ConnectError"):
            await fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/keys")


async def test_an_issuer_that_is_slow_holds_up_nobody_whose_key_is_known(idp: Provider) -> None:
    signer, gate = Signer.of("EdDSA"), threading.Event()
    idp.publish(signer.jwk())
    try:
        async with verifier(idp, FOUND[1]) as verify:
            assert await verify.verify(signer.sign(idp.url)) == ADA
            idp.answers[JWKS].before = gate
            unknown = asyncio.create_task(verify.verify(Signer.of("EdDSA", "unknown").sign(idp.url)))
            await wait_until(lambda: idp.asked[JWKS] == 2)
            assert await verify.verify(signer.sign(idp.url, sub="bob")) == Principal("acme", "bob", "pro")
            assert not unknown.done()
            gate.set()
            with pytest.raises(InvalidToken):
                await unknown
    finally:
        gate.set()
