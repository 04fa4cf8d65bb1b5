"""The real openai client, through the gateway, on real vLLM: what it is told is what the ledger holds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openai import AsyncOpenAI
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from proxy.billing.record import OK, ExchangeRecord, Source
from tests.vllm.fleet import Fleet, record_of

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me about toll roads."}]
LOOK: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"far": {"type": "boolean"}}, "required": ["far"]},
    },
}


@asynccontextmanager
async def openai_client(fleet: Fleet, user: str) -> AsyncIterator[AsyncOpenAI]:
    """Give a client of one user."""
    key = fleet.gateway.token("acme", user, "open")
    async with AsyncOpenAI(base_url=f"{fleet.gateway.url}/v1", api_key=key, max_retries=0) as opened:
        yield opened


async def assert_billed(fleet: Fleet, user: str, usage: CompletionUsage | None) -> ExchangeRecord:
    """Assert that a user's one exchange is billed as its client was told."""
    assert usage is not None
    await fleet.settled()
    record = await record_of(fleet.gateway, user)
    assert (record.prompt_tokens, record.completion_tokens) == (usage.prompt_tokens, usage.completion_tokens)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert (record.source, record.outcome) == (Source.ENGINE, OK)
    return record


async def test_a_chat(fleet: Fleet) -> None:
    async with openai_client(fleet, "oa-chat") as client:
        answer = await client.chat.completions.create(model="demo", messages=MESSAGES, max_tokens=12, temperature=0)
    assert answer.choices[0].finish_reason in ("length", "stop")
    await assert_billed(fleet, "oa-chat", answer.usage)


async def test_a_stream_of_two_choices(fleet: Fleet) -> None:
    async with openai_client(fleet, "oa-stream") as client:
        stream = await client.chat.completions.create(
            model="demo",
            messages=MESSAGES,
            max_tokens=20,
            n=2,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
        chunks = [chunk async for chunk in stream]
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    record = await assert_billed(fleet, "oa-stream", chunks[-1].usage)
    assert record.completion_tokens == 40


async def test_a_stream_that_did_not_ask_for_usage(fleet: Fleet) -> None:
    async with openai_client(fleet, "oa-plain") as client:
        stream = await client.chat.completions.create(
            model="demo", messages=MESSAGES, max_tokens=9, stream=True, extra_body={"ignore_eos": True}
        )
        chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    await fleet.settled()
    assert (await record_of(fleet.gateway, "oa-plain")).completion_tokens == 9


async def test_a_tool_call_in_pieces(fleet: Fleet) -> None:
    async with openai_client(fleet, "oa-tools") as client:
        stream = await client.chat.completions.create(
            model="demo",
            messages=MESSAGES,
            tools=[LOOK],
            tool_choice={"type": "function", "function": {"name": "look"}},
            max_tokens=60,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert [call.function.name for call in calls if call.function and call.function.name] == ["look"]
    assert "".join(call.function.arguments or "" for call in calls if call.function)
    await assert_billed(fleet, "oa-tools", chunks[-1].usage)


async def test_completions_of_several_prompts_and_choices(fleet: Fleet) -> None:
    async with openai_client(fleet, "oa-list") as client:
        answer = await client.completions.create(
            model="demo", prompt=["one", "two and three"], n=2, max_tokens=5, extra_body={"ignore_eos": True}
        )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    record = await assert_billed(fleet, "oa-list", answer.usage)
    assert record.completion_tokens == 20


async def test_logprobs(fleet: Fleet) -> None:
    async with openai_client(fleet, "oa-logprobs") as client:
        answer = await client.chat.completions.create(
            model="demo", messages=MESSAGES, max_tokens=4, logprobs=True, top_logprobs=2, temperature=0
        )
    logprobs = answer.choices[0].logprobs
    assert answer.usage is not None
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == answer.usage.completion_tokens
    assert all(len(token.top_logprobs) == 2 for token in logprobs.content)
    await assert_billed(fleet, "oa-logprobs", answer.usage)


async def test_a_stop_string(fleet: Fleet) -> None:
    async with openai_client(fleet, "oa-stop") as client:
        answer = await client.chat.completions.create(
            model="demo", messages=MESSAGES, max_tokens=200, stop=["e"], temperature=1, seed=3
        )
    assert answer.choices[0].finish_reason == "stop"
    assert "e" not in (answer.choices[0].message.content or "")
    await assert_billed(fleet, "oa-stop", answer.usage)


async def test_embeddings(fleet: Fleet) -> None:
    async with openai_client(fleet, "oa-embeddings") as client:
        answer = await client.embeddings.create(model="embedder", input=["a toll", "a long road"])
    assert len(answer.data) == 2
    await fleet.settled()
    record = await record_of(fleet.gateway, "oa-embeddings")
    assert (record.prompt_tokens, record.completion_tokens) == (answer.usage.prompt_tokens, 0)
