"""What vLLM takes in other spellings, through the gateway: it answers, and the bill is what it told."""

from typing import Any

import pytest

from tests.vllm.fleet import CHAT, COMPLETIONS, Fleet, record_of

HELLO = [{"role": "user", "content": "hello world"}]
PARTS = [
    {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}},
    {"type": "input_text", "text": "world"},
    {"type": "text", "text": "and", "uuid": "u", "image_url": "http://127.0.0.1:9/a.png"},
    {"type": "thinking", "thinking": "a while", "closed": True},
]
SAID: dict[str, tuple[str, dict[str, Any], int]] = {
    "numbers": (CHAT, {"messages": HELLO, "max_tokens": "3", "n": 2.0, "min_tokens": True}, 6),
    "flags": (CHAT, {"messages": HELLO, "max_tokens": 3, "stream": "no", "logprobs": "yes", "top_logprobs": 2.0}, 3),
    "parts": (CHAT, {"messages": [{"role": "user", "content": PARTS}], "max_tokens": 3}, 3),
    "left out": (
        CHAT,
        {"messages": HELLO, "max_tokens": 3, "return_tokens_as_token_ids": True, "user": "u", "odd": 1},
        3,
    ),
    "scored": (COMPLETIONS, {"prompt": "hello world", "max_tokens": 0, "echo": True, "logprobs": 1}, 1),
    "scored twice": (COMPLETIONS, {"prompt": ["hello", "world"], "max_tokens": "0", "echo": "true"}, 2),
}
"""Of each: where it is asked, what, and how many tokens are generated for it."""


@pytest.mark.parametrize("name", SAID)
async def test_it_is_answered_and_billed(fleet: Fleet, name: str) -> None:
    path, body, generated = SAID[name]
    user = f"lenient {name}"
    async with fleet.client(user) as client:
        answer = await client.post(path, json={"model": "demo", "ignore_eos": True} | body)
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    await fleet.settled()
    record = await record_of(fleet.gateway, user)
    assert (record.prompt_tokens, record.completion_tokens) == (usage["prompt_tokens"], generated)
    assert usage["completion_tokens"] == generated
    if name == "left out":
        assert answer.headers["x-tollway-ignored"] == "user, odd"


async def test_a_scored_prompt_is_shown_and_nothing_else(fleet: Fleet) -> None:
    path, body, _ = SAID["scored"]
    streams = [{}, {"stream": True, "stream_options": {"include_usage": "true"}}]
    async with fleet.client("scorer") as client:
        whole, stream = [await client.post(path, json={"model": "demo"} | body | more) for more in streams]
    assert whole.json()["choices"][0]["text"] == "hello world"
    assert stream.text.count('"text":"hello world"') == 1
    assert '"choices":[],"usage":{' in stream.text
    assert stream.text.endswith("data: [DONE]\n\n")
