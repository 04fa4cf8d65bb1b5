"""Limits as a tenant meets them: what is let in, what is refused, and when to come back."""

import asyncio
import time
from contextlib import AsyncExitStack

import httpx

from tests.asks import CHAT, chat
from tests.e2e.gateway import Running


def http(running: Running, user: str, *, tenant: str = "acme", plan: str | None = None) -> httpx.AsyncClient:
    """Return a client of one user."""
    limits = httpx.Limits(max_connections=None)
    return running.client(running.bearer(tenant, user, plan), limits=limits)


async def test_a_thousand_at_once_never_pass_the_limit(running: Running) -> None:
    """100,000 tokens a minute admit what they hold and what refills meanwhile, and the rest may come back."""
    body = chat(900)
    began = time.time()
    async with AsyncExitStack() as stack:
        # Each client of httpx slows down with the number of its connections: twenty share the thousand.
        clients = [await stack.enter_async_context(http(running, "thousand", plan="metered")) for _ in range(20)]
        answers = await asyncio.gather(*(client.post(CHAT, json=body) for client in clients for _ in range(50)))
        took_s = time.time() - began
        refused = [answer for answer in answers if answer.status_code == 429]
        served = [answer for answer in answers if answer.status_code == 200]
        assert len(refused) + len(served) == 1_000
        assert served
        assert refused
        charged = sum(answer.json()["usage"]["total_tokens"] for answer in served)
        assert charged <= 100_000 + 100_000 * took_s / 60
        assert {answer.json()["error"]["code"] for answer in refused} == {"rate_limit_exceeded"}
        quota = (await clients[0].get("/v1/quota")).json()
        [tokens] = [limit for limit in quota["limits"] if limit["unit"] == "tokens"]
        assert tokens["used"] <= 100_000
    [row] = [row for row in running.usage("user") if row["user"] == "thousand"]
    assert row["prompt_tokens"] + row["completion_tokens"] == charged
    assert row["requests"] == len(served)


async def test_a_refused_request_is_admitted_after_its_retry_after(running: Running) -> None:
    async with http(running, "patient", tenant="globex") as client:
        body = chat(2)
        while (answer := await client.post(CHAT, json=body)).status_code == 200:
            pass
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        await asyncio.sleep(int(answer.headers["retry-after"]))
        assert (await client.post(CHAT, json=body)).status_code == 200


async def test_answers_say_how_the_limits_stand(running: Running) -> None:
    async with http(running, "headers", tenant="globex") as client:
        answer = await client.post(CHAT, json=chat(2))
    headers = answer.headers
    assert headers["x-ratelimit-limit-requests"] == "3"
    assert headers["x-ratelimit-remaining-requests"] == "2"
    assert headers["x-ratelimit-limit-tokens"] == "3000"
    assert 0 < int(headers["x-ratelimit-remaining-tokens"]) < 3000
    assert '"user-requests-second";q=3' in headers["ratelimit-policy"]
    assert '"user-requests-second";r=2' in headers["ratelimit"]
    assert len(headers["x-request-id"]) == 26
    assert headers["x-tollway-replica"] in ("demo-0", "demo-1")


async def test_a_completion_is_clamped_to_what_is_left_and_told(running: Running) -> None:
    async with http(running, "clamped", tenant="globex") as client:
        body = chat(5_000)
        answer = await client.post(CHAT, json=body)
        assert answer.status_code == 200
        granted = int(answer.headers["x-tollway-max-completion"])
        assert 256 <= granted < 3_000
        assert answer.json()["usage"]["completion_tokens"] == granted
        again = await client.post(CHAT, json=body)
    assert again.status_code == 429, "less than the least completion is left"


async def test_what_can_never_fit_is_told_at_once(running: Running) -> None:
    long = [{"role": "user", "content": "toll " * 1_000}]
    async with http(running, "never", tenant="globex") as client:
        answer = await client.post(CHAT, json={"model": "demo", "messages": long})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "tokens_exceed_plan"
    assert "retry-after" not in answer.headers


async def test_too_many_in_flight_are_refused_until_one_ends(running: Running) -> None:
    slow = chat(300)
    async with http(running, "concurrent", tenant="globex") as client:
        answers = await asyncio.gather(*(client.post(CHAT, json=slow) for _ in range(3)))
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [200, 200, 429]
        [refused] = [answer for answer in answers if answer.status_code == 429]
        assert refused.json()["error"]["code"] == "concurrency_limit_exceeded"
        assert int(refused.headers["retry-after"]) >= 1


async def test_a_full_pool_turns_away_with_a_wait(running: Running) -> None:
    body = chat(40, model="narrow")
    async with http(running, "full", tenant="initech") as client:
        answers = await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(6)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) == 4
    assert {answer.json()["error"]["code"] for answer in refused} == {"queue_full"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


async def test_quota_shows_use_and_price(running: Running) -> None:
    async with http(running, "shown", tenant="globex") as client:
        await client.post(CHAT, json=chat(4))
        quota = (await client.get("/v1/quota", params={"model": "demo"})).json()
    assert (quota["tenant"], quota["user"], quota["plan"]) == ("globex", "shown", "tight")
    by_name = {limit["name"]: limit for limit in quota["limits"]}
    assert by_name["tenant-tokens-day"]["used"] > 4
    assert by_name["user_model-tokens-hour"]["model"] == "demo"
    assert by_name["user-concurrent"]["used"] == 0
    assert quota["prices"][0]["completion"] == 600_000


async def test_a_long_prompt_is_held_by_its_tokens_once_they_are_counted(running: Running) -> None:
    messages = [{"role": "user", "content": "toll " * 1_000}]
    body = {"model": "faulty", "messages": messages, "max_tokens": 500, "ignore_eos": True, "stream": True}
    async with http(running, "long", tenant="hooli") as client, client.stream("POST", CHAT, json=body) as answer:
        used: list[int] = []
        async for line in answer.aiter_lines():
            if len(used) < 2 and line:
                used.append((await client.get("/v1/quota")).json()["limits"][0]["used"])
                await asyncio.sleep(1.5 if len(used) == 1 else 0)
    assert used[0] > 5_000, "bytes bound it at first"
    assert used[1] < 2_500, "then its tokens"


async def test_fifty_at_once_with_one_key_are_one_request(running: Running) -> None:
    body = chat(2)
    async with http(running, "insistent") as client:
        headers = {"idempotency-key": "order-7"}
        answers = await asyncio.gather(*(client.post(CHAT, json=body, headers=headers) for _ in range(50)))
        [served] = [answer for answer in answers if answer.status_code == 200]
        refused = [answer for answer in answers if answer is not served]
        assert {(each.status_code, each.json()["error"]["code"]) for each in refused} == {
            (409, "idempotency_key_reused")
        }
        first = served.headers["x-request-id"]
        assert {each.headers["x-tollway-first-request-id"] for each in refused} == {first}
        assert all(first in each.json()["error"]["message"] for each in refused)
        assert (await client.post(CHAT, json=body, headers={"idempotency-key": "x" * 256})).status_code == 400
        assert (await client.post(CHAT, json=body)).status_code == 200
    [row] = [row for row in running.usage("user") if row["user"] == "insistent"]
    assert row["requests"] == 2
