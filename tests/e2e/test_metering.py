"""Billed exactly once: what clients received, the counters and the ledger agree to the token."""

import asyncio
import json
import random

import httpx

from tests.e2e.gateway import Running

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
KINDS = ("prompt", "completion")


def body_of(number: int, rng: random.Random) -> tuple[str, dict[str, object]]:
    """Return a request of one of the mixed shapes."""
    words = " ".join(rng.choice(["toll", "road", "lane", "bridge"]) for _ in range(rng.randint(3, 60)))
    common = {"model": "demo", "max_tokens": rng.randint(20, 120), "ignore_eos": True, "temperature": 1}
    match number % 4:
        case 0:
            return CHAT, common | {"messages": [{"role": "user", "content": words}], "stream": True}
        case 1:
            return CHAT, common | {"messages": [{"role": "user", "content": words}], "n": 2, "stream": True}
        case 2:
            return COMPLETIONS, common | {"prompt": [words, "and back"], "n": 2, "stream": True}
        case _:
            return CHAT, common | {"messages": [{"role": "user", "content": words}]}


async def exchange(client: httpx.AsyncClient, number: int, rng: random.Random) -> dict[str, int] | None:
    """Make one request; every third is cut by its client. Return the usage of one that ran to its end."""
    path, body = body_of(number, rng)
    body["stream_options"] = {"include_usage": True} if body.get("stream") else None
    cut_after_s = rng.uniform(0.0, 0.25) if number % 3 == 0 else None
    try:
        async with asyncio.timeout(cut_after_s):
            answer = await client.post(path, json=body)
    except TimeoutError:
        return None
    assert answer.status_code == 200, answer.text
    if not body.get("stream"):
        return dict(answer.json()["usage"])
    frames = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert frames[-1] == "[DONE]"
    return dict(json.loads(frames[-2])["usage"])


async def test_three_hundred_mixed_requests_a_third_cut(running: Running) -> None:
    rng = random.Random(7)
    before = {kind: running.metrics("tollway_tokens_total", tenant="acme", kind=kind) for kind in KINDS}
    ledger_before = ledger(running)
    headers = running.bearer("acme", "mixed", "open")
    limits = httpx.Limits(max_connections=None)
    async with running.client(headers, limits=limits) as client:
        slots = asyncio.Semaphore(100)

        async def one(number: int) -> dict[str, int] | None:
            async with slots:
                return await exchange(client, number, random.Random(rng.random() + number))

        received = await asyncio.gather(*(one(number) for number in range(300)))
    await running.eventually("tollway_reservations_open", 0, within_s=3)

    whole = [usage for usage in received if usage is not None]
    assert 200 <= len(whole) < 300
    ledger_after = ledger(running)
    for kind in KINDS:
        counted = running.metrics("tollway_tokens_total", tenant="acme", kind=kind) - before[kind]
        assert ledger_after[kind] - ledger_before[kind] == counted
        assert sum(usage[f"{kind}_tokens"] for usage in whole) <= counted
    async with running.client(headers) as client:
        quota = (await client.get("/v1/quota")).json()
    assert [limit["used"] for limit in quota["limits"]] == [0], "nothing is in flight"


async def test_uncut_exchanges_agree_to_the_token(running: Running) -> None:
    headers = running.bearer("acme", "uncut", "open")
    async with running.client(headers) as client:
        received = []
        for number in range(40):
            usage = await exchange(client, 3 * number + 1, random.Random(number))
            assert usage is not None
            received.append(usage)
    printed = running.tollway("usage", "--from", "2020-01-01", "--group-by", "user", "--format", "json")
    [row] = [row for row in json.loads(printed)["rows"] if row["user"] == "uncut"]
    assert row["requests"] == 40
    for kind in KINDS:
        billed = sum(usage[f"{kind}_tokens"] for usage in received)
        assert row[f"{kind}_tokens"] == billed
        assert running.metrics("tollway_user_tokens_total", user="uncut", kind=kind) == billed


def ledger(running: Running) -> dict[str, int]:
    """Return the tokens that the ledger holds for the tenant, by kind."""
    rows = [row for row in running.usage("tenant") if row["tenant"] == "acme"]
    return {kind: sum(int(row[f"{kind}_tokens"]) for row in rows) for kind in KINDS}
