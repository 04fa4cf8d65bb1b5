"""Who may come in, as a running gateway decides it: revocation, hostile names, a provider of keys."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.e2e.gateway import Running, gateway
from tests.exposition import samples
from tests.issuer import JWKS, Provider, Signer, provider
from tests.raw_http import connected
from tests.unit.proxy.identity.hostile import Forger

CHAT = "/v1/chat/completions"
MODELS = b"GET /v1/models HTTP/1.1\r\nhost: here\r\nauthorization: Bearer %s\r\n\r\n"
REVOKED_S_MAX = 2.0
"""What the contract promises."""
UNSENDABLE = set(b"\r\n\0")
"""What no client can put into a header."""
HEADER_BYTES_MAX = 30_000
"""A larger one is the server's to refuse."""
BODY = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running.client() as opened:
        yield opened


async def status(client: httpx.AsyncClient, token: str) -> int:
    return (await client.get("/v1/models", headers={"authorization": f"Bearer {token}"})).status_code


async def assert_turns(client: httpx.AsyncClient, token: str, expected: int) -> None:
    """Assert that a token is answered so within what the contract promises."""
    deadline = time.monotonic() + REVOKED_S_MAX
    while (seen := await status(client, token)) != expected:
        assert time.monotonic() < deadline, f"still {seen} after {REVOKED_S_MAX} s"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "what",
    [["user", "revoked-by-user", "--tenant", "acme"], ["tenant", "globex"], ["jti"]],
    ids=lambda what: what[0],
)
async def test_a_revoked_token_is_refused_within_two_seconds_and_works_again_when_lifted(
    running: Running, client: httpx.AsyncClient, what: list[str]
) -> None:
    kind, now_s = what[0], int(time.time())
    tenant = "globex" if kind == "tenant" else "acme"
    user = f"revoked-by-{kind}"
    token = running.token(tenant, user, now_s=now_s - 5)
    if kind == "jti":
        what = [kind, jwt.decode(token, options={"verify_signature": False})["jti"]]
    other = running.token("acme", "somebody-else")
    assert await status(client, token) == 200, "it is in the cache now"
    said = json.loads(await asyncio.to_thread(running.tollway, "revoke", *what, "--format", "json"))
    await assert_turns(client, token, 401)
    refused = await client.post(CHAT, json=BODY, headers={"authorization": f"Bearer {token}"})
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert "revoked" in refused.json()["error"]["message"]
    assert await status(client, other) == 200
    if kind != "jti":
        assert await status(client, running.token(tenant, user, now_s=now_s + 20)) == 200, "who logs in again is let in"
    await asyncio.to_thread(running.tollway, "revoke", "lift", said["id"])
    await assert_turns(client, token, 200)


async def test_a_stream_that_runs_goes_on_when_its_user_is_revoked(running: Running, client: httpx.AsyncClient) -> None:
    token = running.token("acme", "streaming", now_s=int(time.time()) - 5)
    body = BODY | {"stream": True, "max_tokens": 1500, "ignore_eos": True}
    read = ""
    async with client.stream("POST", CHAT, json=body, headers={"authorization": f"Bearer {token}"}) as answer:
        async for text in answer.aiter_text():
            if not read:
                await asyncio.to_thread(running.tollway, "revoke", "user", "streaming", "--tenant", "acme")
                await assert_turns(client, token, 401)
            read += text
    assert "[DONE]" in read
    await asyncio.to_thread(running.tollway, "revoke", "lift", "user:acme/streaming")


async def test_a_revocation_is_known_again_after_a_restart(folder: Path) -> None:
    with gateway(folder) as first:
        token = first.token("acme", "ada", now_s=int(time.time()) - 5)
        first.tollway("revoke", "tenant", "acme")
    with gateway(folder) as second:
        async with second.client() as client:
            assert await status(client, token) == 401


@pytest.fixture
def idp() -> Iterator[Provider]:
    with provider() as started:
        yield started


async def test_a_gateway_starts_without_its_provider_and_takes_its_keys_up(folder: Path, idp: Provider) -> None:
    signer = Signer.of("RS256", "k1")
    idp.fail()
    environment = {
        "TOLLWAY__AUTH__ISSUERS__1__ISSUER": idp.url,
        "TOLLWAY__AUTH__ISSUERS__1__DISCOVERY": "true",
        "TOLLWAY__AUTH__ISSUERS__1__ALGORITHMS": '["RS256"]',
    }
    with gateway(folder, **environment) as started:
        async with started.client() as client:
            assert (await client.get("/health/ready")).status_code == 200
            assert await status(client, started.token()) == 200, "the other issuer's tokens are judged"
            away = await client.post(CHAT, json=BODY, headers={"authorization": f"Bearer {signer.sign(idp.url)}"})
            assert (away.status_code, away.json()["error"]["code"]) == (503, "identity_unavailable")
            assert away.headers["retry-after"] == "10"
            assert started.metrics("tollway_key_fetches_total", issuer=idp.url, result="failed") >= 1
            idp.publish(signer.jwk())
            deadline = time.monotonic() + 30
            while await status(client, signer.sign(idp.url)) != 200:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.2)
            assert idp.asked[JWKS] == 1
            assert started.metrics("tollway_key_fetches_total", issuer=idp.url, result="ok") == 1


NAMES = {
    "braces": "{acme}",
    "star": "*",
    "colon": "a:b::c",
    "percent": "%00%2F%",
    "slashes": "../../etc/passwd",
    "prototype": "__proto__",
    "quotes": "a\"b'c\\d`e",
    "labels": 'x",tenant="globex',
    "emoji": "🙂" * 20,
    "right to left": "שלום",
    "json": '{"$gt":""}',
    "sql": "'; DROP TABLE users;--",
    "shell": "$(reboot)",
    "percent format": "%s%n{0}{}",
    "spaces": "a  b",
    "as long as it may be": "ü" * 128,
}


async def test_any_printable_name_goes_through_redis_metrics_and_logs_as_itself(
    running: Running, client: httpx.AsyncClient
) -> None:
    for name in NAMES.values():
        headers = {"authorization": f"Bearer {running.token('globex', name, 'tight')}"}
        answer = await client.post(CHAT, json=BODY, headers=headers)
        assert answer.status_code == 200, (name, answer.text)
        shown = (await client.get("/v1/quota", headers=headers)).json()
        assert shown["user"] == name
        hourly = [limit for limit in shown["limits"] if limit["scope"] == "user_model" and limit["model"] == "demo"]
        assert [limit["used"] for limit in hourly] == [answer.json()["usage"]["total_tokens"]], "nobody else's"
    exposition = running.admin("/metrics")
    metered = {labels["user"] for _, labels, _ in samples(exposition, of="tollway_user_tokens_total")}
    assert set(NAMES.values()) <= metered
    lines = [json.loads(line) for line in (running.folder / "log").read_text().splitlines()]
    logged: list[dict[str, Any]] = [line for line in lines if line["event"] == "exchange"]
    assert set(NAMES.values()) <= {line["user"] for line in logged}
    assert set(NAMES.values()) <= {row["user"] for row in running.usage("user")}


async def test_hostile_tokens_are_401_are_never_logged_and_leave_the_gateway_as_it_was(
    running: Running, client: httpx.AsyncClient
) -> None:
    secret = running.settings.key_file(running.settings.auth.issuers[0]).read_bytes().strip()
    hostile = dict(Forger(secret, Signer.of("ES256"), secret, issuer="tollway-development").tokens())
    good = running.token("acme", "among-hostile-ones")
    for what, token in hostile.items():
        value = b"Bearer " + token.encode()
        if token and not UNSENDABLE & set(value) and len(value) < HEADER_BYTES_MAX:
            answer = await client.post(CHAT, json=BODY, headers=[(b"authorization", value)])
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), what
            assert len(token) < 8 or token not in answer.text
    assert await status(client, good) == 200
    log = (running.folder / "log").read_text()
    assert not [what for what, token in hostile.items() if len(token) > 16 and token in log]
    assert not [what for what, token in hostile.items() if len(token) > 200 and token[-40:] in log]
    assert good not in log
    assert '"level":"error"' not in log


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Basic YTpi")],
        [("authorization", "Bearer {token}, Bearer {token}")],
        [("x-api-key", "{token}"), ("x-tenant", "acme"), ("proxy-authorization", "Bearer {token}")],
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/models/demo", "/v1/quota"])
async def test_only_one_bearer_header_lets_anybody_in(
    running: Running, client: httpx.AsyncClient, *, headers: list[tuple[str, str]], path: str
) -> None:
    sent = [(name, value.format(token=running.token())) for name, value in headers]
    answer = await client.request("POST" if path == CHAT else "GET", path, headers=sent)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    two = [("authorization", f"Bearer {running.token()}"), ("Authorization", "Basic YTpi")]
    assert (await client.get("/v1/models", headers=two)).status_code == 400, "the edge refuses it before"
    for scheme in ("bearer", "BEARER ", "Bearer"):
        good = await client.get("/v1/models", headers={"authorization": f"{scheme} {running.token()}"})
        assert good.status_code == 200


async def test_a_flood_of_forged_tokens_holds_up_no_new_user_behind_the_same_address(folder: Path) -> None:
    with gateway(folder) as flooded:
        head, _, signature = flooded.token("acme", "forged").rpartition(".")
        forged = (f"{head}.{number:06}{signature[6:]}" for number in range(1_000_000))
        seen: Counter[int] = Counter()
        over = asyncio.Event()

        async def flood() -> None:
            async with connected(*flooded.address) as bare:
                while not over.is_set():
                    seen[(await bare.ask(MODELS % next(forged).encode())).status] += 1

        async with flooded.client() as client, asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(flood())
            while seen.total() < 2_500:
                await asyncio.sleep(0.05)
                assert await status(client, flooded.token("acme", f"new-{seen.total()}")) == 200
            over.set()
        assert seen[401] > 2_000, "they are told that they are wrong"
