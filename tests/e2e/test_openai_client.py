"""What a tenant's app sees: the real openai client, pointed at the gateway."""

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.gateway import Running

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me about toll roads."}]


def client(running: Running, user: str, *, tenant: str = "acme", plan: str | None = None) -> AsyncOpenAI:
    """Return a client of one user, which never tries again by itself."""
    return AsyncOpenAI(base_url=f"{running.url}/v1", api_key=running.token(tenant, user, plan), max_retries=0)


async def test_a_chat_answers_and_says_what_it_used(running: Running) -> None:
    async with client(running, "chat") as openai_client:
        answer = await openai_client.chat.completions.create(model="demo", messages=MESSAGES, max_tokens=12)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_stream_has_usage_only_when_asked_for(running: Running) -> None:
    async with client(running, "stream") as openai_client:
        plain = [
            chunk
            async for chunk in await openai_client.chat.completions.create(
                model="demo", messages=MESSAGES, max_tokens=8, stream=True
            )
        ]
        asked = [
            chunk
            async for chunk in await openai_client.chat.completions.create(
                model="demo", messages=MESSAGES, max_tokens=8, stream=True, stream_options={"include_usage": True}
            )
        ]
    assert all(chunk.usage is None and chunk.choices for chunk in plain)
    assert [chunk.usage is not None for chunk in asked] == [False] * (len(asked) - 1) + [True]
    assert text(plain) == text(asked) != ""


async def test_completions_of_several_prompts_and_choices(running: Running) -> None:
    async with client(running, "completions") as openai_client:
        answer = await openai_client.completions.create(
            model="demo", prompt=["one", "two"], n=2, max_tokens=4, temperature=1
        )
        stream = await openai_client.completions.create(
            model="demo", prompt=["one", "two"], n=2, max_tokens=4, temperature=1, stream=True
        )
        streamed = {choice.index async for chunk in stream for choice in chunk.choices}
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert streamed == {0, 1, 2, 3}


async def test_embeddings(running: Running) -> None:
    async with client(running, "embeddings") as openai_client:
        answer = await openai_client.embeddings.create(model="demo", input=["a toll", "a road"])
    assert len(answer.data) == 2
    assert answer.usage.prompt_tokens > 0


async def test_models_are_those_of_the_plan(running: Running) -> None:
    async with client(running, "models") as openai_client:
        listed = {model.id async for model in openai_client.models.list()}
        assert listed == {"demo", "gpt-4o-mini"}
        assert (await openai_client.models.retrieve("gpt-4o-mini")).id == "gpt-4o-mini"
        with pytest.raises(openai.NotFoundError):
            await openai_client.models.retrieve("narrow")


async def test_an_alias_is_served_by_its_model(running: Running) -> None:
    async with client(running, "alias") as openai_client:
        answer = await openai_client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, max_tokens=2)
    assert answer.model == "demo"


async def test_errors_are_the_clients_own(running: Running) -> None:
    async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key="nonsense", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            await stranger.chat.completions.create(model="demo", messages=MESSAGES)
        assert refused.value.code == "invalid_api_key"
    async with client(running, "errors") as openai_client:
        with pytest.raises(openai.NotFoundError) as unknown:
            await openai_client.chat.completions.create(model="gpt-9", messages=MESSAGES)
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.PermissionDeniedError) as forbidden:
            await openai_client.chat.completions.create(model="narrow", messages=MESSAGES)
        assert forbidden.value.code == "model_not_allowed"
        with pytest.raises(openai.BadRequestError) as engines:
            await openai_client.chat.completions.create(model="demo", messages=MESSAGES, temperature=-1)
        assert "temperature" in engines.value.message


async def test_an_engines_refusal_of_a_stream_is_a_real_status(running: Running) -> None:
    async with client(running, "refused-stream") as openai_client:
        with pytest.raises(openai.BadRequestError):
            await openai_client.chat.completions.create(
                model="demo", messages=MESSAGES, stream=True, logprobs=True, top_logprobs=30
            )


def text(chunks: list[openai.types.chat.ChatCompletionChunk]) -> str:
    """Return what a stream said."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
