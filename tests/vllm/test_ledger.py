"""The bill against the engines' own counters: to the token where nothing is cut, and what a cut leaves is stated."""

import asyncio
import json
import random
from dataclasses import dataclass
from typing import Any

import httpx

from proxy.billing.record import CLIENT_CLOSED, OK, ExchangeRecord
from tests.vllm.fleet import CHAT, COMPLETIONS, EMBEDDINGS, REPLICAS, Counts, Fleet, records

REQUESTS = 200
AT_A_TIME = 16
EVERY_CUT = 10
PATIENCE_S = (0.2, 2.0)
"""How long a client that leaves has stayed, from its request on."""
TENANTS = ("acme", "globex", "hooli")
EVERYWHERE = (*REPLICAS, "embedder-0")
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"far": {"type": "boolean"}}, "required": ["far"]},
    },
}
NAMED = {"type": "function", "function": {"name": "look"}}
SHARED = "the people of this world made a long way down to the water and back again in one day, so they said. " * 4
"""Long enough for the prefix cache."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it was sent, and what became of it."""

    path: str
    body: dict[str, Any]
    cut: bool
    request_id: str = ""
    usage: dict[str, int] | None = None
    """What the client was told; None where it did not ask, or did not stay."""

    @property
    def n(self) -> int:
        """Return the choices of each prompt."""
        return int(self.body.get("n") or 1)


def request(number: int, rng: random.Random) -> tuple[str, dict[str, Any]]:
    """Return one of the mixed requests."""
    words = " ".join(rng.choice(["toll", "road", "lane", "bridge", "river"]) for _ in range(rng.randint(1, 60)))
    common = {"model": "demo", "max_tokens": rng.randint(1, 60), "temperature": 1, "seed": rng.randint(1, 10**6)}
    chat = common | {"messages": [{"role": "user", "content": words}]}
    prompts = [words, SHARED + words, "and back"][: 1 + number % 3]
    text = common | {"prompt": words}
    kinds: list[tuple[str, dict[str, Any]]] = [
        (CHAT, chat),
        (CHAT, chat | {"n": 3, "ignore_eos": True}),
        (CHAT, chat | {"messages": [{"role": "user", "content": SHARED + words}]}),
        (CHAT, chat | {"n": 2, "logprobs": True, "top_logprobs": 3}),
        (CHAT, chat | {"stop": ["e", "toll"], "max_tokens": 60}),
        (CHAT, chat | {"tools": [LOOK], "tool_choice": "auto"}),
        (CHAT, chat | {"tools": [LOOK], "tool_choice": NAMED}),
        (CHAT, chat | {"min_tokens": 1, "max_completion_tokens": 7}),
        (COMPLETIONS, text),
        (COMPLETIONS, text | {"prompt": prompts, "n": 2}),
        (COMPLETIONS, text | {"prompt": [[400, 401], [402, 403, 404]], "stop": "a"}),
        (COMPLETIONS, text | {"logprobs": 2, "echo": True}),
        (COMPLETIONS, text | {"prompt": prompts, "n": 3, "ignore_eos": True}),
    ]
    if number % (2 * len(kinds)) == 0:  # an even number: none of those that are cut
        return EMBEDDINGS, {"model": "embedder", "input": [words, SHARED][: 1 + number % 2]}
    path, body = kinds[number % len(kinds)]
    options = [None, {"include_usage": True}, {"include_usage": True, "continuous_usage_stats": True}]
    if rng.random() < 0.6:
        body |= {"stream": True} | ({"stream_options": option} if (option := rng.choice(options)) else {})
    return path, body


async def ask(client: httpx.AsyncClient, asked: Asked, patience_s: float | None) -> Asked:
    """Send one request and read it to its end, or for as long as the client has patience."""
    request_id, text = "", ""
    try:
        async with asyncio.timeout(patience_s), client.stream("POST", asked.path, json=asked.body) as answer:
            request_id = answer.headers["x-request-id"]
            async for piece in answer.aiter_text():
                text += piece
            assert answer.status_code == 200, text
    except TimeoutError:
        return Asked(asked.path, asked.body, cut=True, request_id=request_id)
    return Asked(asked.path, asked.body, cut=False, request_id=request_id, usage=told(asked.body, text))


def told(body: dict[str, Any], text: str) -> dict[str, int] | None:
    """Return the usage that a whole answer tells its client."""
    if not body.get("stream"):
        return dict(json.loads(text)["usage"])
    *_, last, done = [frame.removeprefix("data: ") for frame in text.split("\n\n") if frame]
    assert done == "[DONE]"
    if not body.get("stream_options"):
        assert '"usage"' not in text
        return None
    return dict(json.loads(last)["usage"])


async def all_asked(fleet: Fleet, user: str, *, cut_every: int = 0) -> list[Asked]:
    """Send all requests, AT_A_TIME at a time, from several tenants; the same ones whenever it is called."""
    slots, rng = asyncio.Semaphore(AT_A_TIME), random.Random(2026)

    async def one(number: int, path: str, body: dict[str, Any]) -> Asked:
        patience_s = None
        if cut_every and number % cut_every == 1:
            patience_s = random.Random(number).uniform(*PATIENCE_S)
            body = body | {"max_tokens": 600, "ignore_eos": True, "stop": None}
            body.pop("max_completion_tokens", None)
        async with slots, fleet.client(user, TENANTS[number % len(TENANTS)]) as client:
            return await ask(client, Asked(path, body, cut=False), patience_s)

    requests = [request(number, rng) for number in range(REQUESTS)]
    return list(await asyncio.gather(*(one(number, *each) for number, each in enumerate(requests))))


async def counted(fleet: Fleet) -> dict[str, Counts]:
    """Return every replica's counters, at rest."""
    return {replica: await fleet.idle(replica) for replica in EVERYWHERE}


def of_replica(ledger: list[ExchangeRecord], replica: str) -> list[ExchangeRecord]:
    """Return the records that name a replica."""
    return [record for record in ledger if record.replica == replica]


async def test_two_hundred_mixed_requests_are_billed_as_the_engines_count(fleet: Fleet) -> None:
    before = await counted(fleet)
    asked = await all_asked(fleet, "uncut")
    await fleet.settled()
    after = await counted(fleet)

    ledger = [record for record in await records(fleet.gateway) if record.user == "uncut"]
    n_of = {one.request_id: one.n for one in asked}
    assert len(ledger) == REQUESTS == len(n_of)
    assert {record.outcome for record in ledger} == {OK}
    assert {record.tenant for record in ledger} == set(TENANTS)
    for replica in EVERYWHERE:
        served, counts = of_replica(ledger, replica), after[replica].since(before[replica])
        completion = sum(record.completion_tokens for record in served)
        prompt = sum(record.prompt_tokens * n_of[record.request_id] for record in served)
        print(  # noqa: T201
            f"[{replica}: {len(served)} requests; completion tokens {completion} billed, {counts.generation_tokens} "
            f"counted; prompt tokens x n {prompt} billed, {counts.prompt_tokens} counted]"
        )
        assert served
        assert completion == counts.generation_tokens
        assert prompt == counts.prompt_tokens
    billed = {record.request_id: record for record in ledger}
    for one in asked:
        if one.usage is not None:
            record = billed[one.request_id]
            assert record.prompt_tokens == one.usage["prompt_tokens"]
            assert record.completion_tokens == one.usage.get("completion_tokens", 0)
    assert any(record.cached_tokens for record in ledger)


async def test_with_a_tenth_cut_the_difference_is_what_ran_after_the_cut(fleet: Fleet) -> None:
    before = await counted(fleet)
    asked = await all_asked(fleet, "cut", cut_every=EVERY_CUT)
    await fleet.settled()
    after = await counted(fleet)

    ledger = [record for record in await records(fleet.gateway) if record.user == "cut"]
    cut = [record for record in ledger if record.outcome == CLIENT_CLOSED]
    left = sum(one.cut for one in asked)
    assert REQUESTS // EVERY_CUT // 2 <= len(cut) <= left, "one that left before it was admitted has no record"
    assert {record.outcome for record in ledger} <= {OK, CLIENT_CLOSED}
    for replica in EVERYWHERE:
        counts = after[replica].since(before[replica])
        served, lost = of_replica(ledger, replica), of_replica(cut, replica)
        completion = sum(record.completion_tokens for record in served)
        gap = counts.generation_tokens - completion
        seen = [record for record in lost if record.prompt_tokens or record.completion_tokens]
        print(  # noqa: T201
            f"[{replica}: {len(served)} requests, {len(lost)} cut, {len(lost) - len(seen)} of them unobserved; "
            f"completion tokens {completion} billed, {counts.generation_tokens} counted, {gap} after the cut]"
        )
        assert 0 <= gap <= sum(600 * record.n - record.completion_tokens for record in lost)
