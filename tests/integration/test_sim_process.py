"""A simulated replica as a process: start, counters, clients that leave, queue, prefix cache, many streams."""

import asyncio
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from engine.sim.server import KEEP_ALIVE_S
from tests.record_vllm import CONTINUOUS, PARAGRAPH, Case, chat, record
from tests.sim_process import SimProcess, running_sim

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    with running_sim("--decode-ms-per-token", "2", "--model", "demo", "--model", "alias") as process:
        yield process


def body(**extra: Any) -> dict[str, Any]:
    return chat("", **extra).body or {}


async def metrics(sim: SimProcess) -> dict[str, float]:
    """Return the samples of /metrics by name and labels."""
    text = (await record(sim.address, Case("", "GET", "/metrics")))["response"]["chunks"][0]
    return {name: float(value) for name, value in re.findall(r"^(vllm:\S+) (\S+)$", text, re.MULTILINE)}


def test_it_starts_and_ends_cleanly(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.perf_counter()
    with running_sim() as sim:
        took_s = time.perf_counter() - began
        assert sim.end() == 0
    with capsys.disabled():
        print(f"[sim ready in {took_s * 1000:.0f} ms] ", end="")  # noqa: T201


async def test_the_same_seed_and_prompt_give_the_same_text(sim: SimProcess) -> None:
    with running_sim("--decode-ms-per-token", "0") as twin, running_sim("--seed", "1") as other:
        texts = [
            (await one.ask("POST", CHAT, body()))["choices"][0]["message"]["content"] for one in (sim, twin, other)
        ]
    assert texts[0] == texts[1] != texts[2]


async def test_stream_and_whole_answer_say_the_same(sim: SimProcess) -> None:
    whole = await sim.ask("POST", CHAT, body(max_tokens=200, ignore_eos=False))
    frames = await sim.frames(CHAT, body(max_tokens=200, ignore_eos=False, **CONTINUOUS))
    streamed = "".join(frame["choices"][0]["delta"]["content"] for frame in frames[:-2])
    assert streamed == whole["choices"][0]["message"]["content"]
    assert frames[-2]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert frames[-3]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "stop"


async def test_an_alias_answers_as_the_first_model(sim: SimProcess) -> None:
    assert (await sim.ask("POST", CHAT, body(model="alias")))["model"] == "demo"
    assert [model["id"] for model in (await sim.ask("GET", "/v1/models"))["data"]] == ["demo", "alias"]


async def test_who_hangs_up_aborts_at_once_and_counts_what_was_generated(sim: SimProcess) -> None:
    before = await sim.stats()
    reader, writer = await sim.open(CHAT, body(max_tokens=5000, stream=True))
    await reader.readuntil(b'"delta":{"content"')
    writer.close()
    after = await sim.until(aborted=before["aborted"] + 1, active=0, running=0)
    generated = after["generated_tokens"] - before["generated_tokens"]
    assert 0 < generated < 1000
    assert (await sim.stats())["generated_tokens"] == after["generated_tokens"], "it goes on generating"
    assert after["finished"] == before["finished"]


async def test_who_hangs_up_on_a_plain_request_aborts_it_too(sim: SimProcess) -> None:
    before = await sim.stats()
    _, writer = await sim.open(CHAT, body(max_tokens=5000))
    await sim.until(running=1)
    writer.close()
    await sim.until(aborted=before["aborted"] + 1, active=0, running=0)


async def test_requests_can_be_aborted_by_id_or_all(sim: SimProcess) -> None:
    named = Case("", "POST", CHAT, body(max_tokens=5000), headers={"X-Request-Id": "me"})
    mine = asyncio.create_task(record(sim.address, named))
    other = asyncio.create_task(sim.ask("POST", CHAT, body(max_tokens=5000)))
    await sim.until(running=2)
    first = await sim.ask("POST", "/abort_requests", {"request_ids": ["chatcmpl-me"]})
    assert '"finish_reason":"abort"' in (await mine)["response"]["chunks"][0]
    await sim.until(running=1)
    second = await sim.ask("POST", "/abort_requests", {})
    assert (await other)["choices"][0]["finish_reason"] == "abort"
    assert first == second == {"status": "aborted", "aborted": 1}


async def test_the_queue_is_first_come_first_served_and_forgets_who_left() -> None:
    with running_sim("--max-num-seqs", "1", "--decode-ms-per-token", "5") as sim:
        _, running = await sim.open(CHAT, body(max_tokens=5000, stream=True))
        await sim.until(running=1)
        _, left = await sim.open(CHAT, body(stream=True))
        await sim.until(waiting=1)
        order: list[int] = []

        async def wait_in_line(number: int) -> None:
            await sim.transcript(CHAT, body(stream=True))
            order.append(number)

        tasks = []
        for number in (1, 2):
            tasks.append(asyncio.create_task(wait_in_line(number)))
            await sim.until(waiting=1 + number)
        assert (await metrics(sim))['vllm:num_requests_waiting{engine="0",model_name="demo"}'] == 3
        left.close()
        await sim.until(waiting=2, aborted=1)
        running.close()
        await asyncio.gather(*tasks)
        assert order == [1, 2]


async def test_metrics_count_what_usage_says(sim: SimProcess) -> None:
    labels = '{engine="0",model_name="demo"}'
    before = await metrics(sim)
    long = body(n=2, temperature=1, messages=[{"role": "user", "content": PARAGRAPH * 4}])
    usage = (await sim.ask("POST", CHAT, long))["usage"]
    again = (await sim.ask("POST", CHAT, long))["usage"]
    after = await metrics(sim)
    change = {name: after[name] - before[name] for name in after}
    assert change[f"vllm:generation_tokens_total{labels}"] == usage["completion_tokens"] + again["completion_tokens"]
    assert change[f"vllm:prompt_tokens_total{labels}"] == 2 * (usage["prompt_tokens"] + again["prompt_tokens"])
    assert change['vllm:request_success_total{engine="0",finished_reason="length",model_name="demo"}'] == 4
    cached = again["prompt_tokens_details"]["cached_tokens"]
    assert again["prompt_tokens"] - 17 < cached < again["prompt_tokens"]
    assert change[f"vllm:prefix_cache_hits_total{labels}"] == 3 * cached


async def test_a_salt_divides_the_cache(sim: SimProcess) -> None:
    prompt = {"model": "demo", "prompt": list(range(500, 564)), "max_tokens": 1}
    cached = [
        (await sim.ask("POST", COMPLETIONS, {**prompt, "cache_salt": salt}))["usage"]["prompt_tokens_details"]
        for salt in ("a", "b", "a")
    ]
    assert [details["cached_tokens"] for details in cached] == [0, 0, 48]


async def test_the_next_turn_finds_the_last_answer_cached(sim: SimProcess) -> None:
    question = {"role": "user", "content": PARAGRAPH}
    first = await sim.ask("POST", CHAT, body(messages=[question], max_tokens=64, cache_salt="turns"))
    turns = [question, first["choices"][0]["message"], {"role": "user", "content": "and then?"}]
    second = await sim.ask("POST", CHAT, body(messages=turns, max_tokens=1, cache_salt="turns"))
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > first["usage"]["prompt_tokens"]


async def test_embeddings_are_repeatable_unit_vectors(sim: SimProcess) -> None:
    asked = {"model": "demo", "input": ["hello", "world", "hello"]}
    answer = await sim.ask("POST", "/v1/embeddings", asked)
    first, second, third = (row["embedding"] for row in answer["data"])
    assert first == third != second
    assert sum(one * one for one in first) == pytest.approx(1)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == 3


async def test_one_connection_serves_many_requests(sim: SimProcess) -> None:
    host, port = sim.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for _ in range(2):
        writer.write(b"GET /health HTTP/1.1\r\nhost: sim\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
    writer.close()
    assert KEEP_ALIVE_S == 5


async def test_sixty_four_streams_at_once_all_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    with running_sim("--decode-ms-per-token", "20", "--slowdown-per-mille", "0") as sim:
        began = time.perf_counter()
        asked = [sim.frames(CHAT, body(max_tokens=25, **CONTINUOUS)) for _ in range(64)]
        answers = await asyncio.gather(*asked)
        took_s = time.perf_counter() - began
    assert all(frames[-1] == "[DONE]" and frames[-2]["usage"]["completion_tokens"] == 25 for frames in answers)
    with capsys.disabled():
        print(f"[64 streams of 25 tokens at 20 ms: {took_s:.2f} s] ", end="")  # noqa: T201
