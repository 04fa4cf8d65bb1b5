"""
The simulated replica answers as the real one was recorded to: every transcript, replayed on a real socket.

Compared is the shape: status, header names and their order, content type, the order of the JSON keys and the types of
the values at every depth, the grammar of a stream's frames, one frame per HTTP chunk. Ids, times, texts and token
counts are free; error messages are not.
"""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.record_vllm import BUSY, CONTINUOUS, KEPT_AT_EACH_END, Case, chat, record, send
from tests.sim_process import SimProcess, parsed, running_sim

FOLDER = Path(__file__).parent.parent / "data" / "vllm-0.32.0"
TRANSCRIPTS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
NOT_ALONE = {
    "103-chat-stop": "the text to stop at is the model's own",
    "126-chat-stream-stop": "the text to stop at is the model's own",
    "330-embeddings-on-a-generator": "the simulation embeds, too",
}
UNDER_CIRCUMSTANCES = {name for name in TRANSCRIPTS if name[0] == "4"}
REPLAYED = [name for name in TRANSCRIPTS if name not in NOT_ALONE and name not in UNDER_CIRCUMSTANCES]
WHOLE = {"stop": None, "stream": False, "stream_options": None}
SAID = ("object", "finish_reason", "role", "index", "model", "message", "type", "code", "param", "detail")
"""Keys whose strings and numbers must be the same, not only of the same type."""


def shape(value: Any, key: str = "") -> Any:
    """Return what of a JSON value has to be the same in every replica."""
    if key == "top_logprobs" and isinstance(value, list):
        return [len(one) if "token" not in one else shape(one) for one in value]
    if key == "bytes":
        return "bytes"
    if isinstance(value, dict):
        return [(name, shape(inner, name)) for name, inner in value.items()]
    if isinstance(value, list):
        return [shape(one, key) for one in value]
    return value if key in SAID else type(value).__name__


def frame_order(frame: Any) -> tuple[int, int]:
    """Return a frame's rank where choices are free to interleave: roles, each choice's content, the rest."""
    choices = frame["choices"] if isinstance(frame, dict) and "choices" in frame else []
    if not choices:
        return (2, 0)
    return (0 if "role" in choices[0].get("delta", {}) else 1, choices[0]["index"])


def shape_of_body(response: dict[str, Any]) -> Any:
    """Return the shape of a whole body."""
    chunks = response["chunks"]
    if dict(response["headers"]).get("content-type", "").startswith("text/event-stream"):
        frames = [parsed(chunk) for chunk in chunks]
        assert [frame_order(frame)[0] for frame in frames] == sorted(frame_order(frame)[0] for frame in frames)
        return [shape(frame) for frame in sorted(frames, key=frame_order)]
    return [shape(orjson.loads(chunk)) if chunk else "" for chunk in chunks]


def head_of(response: dict[str, Any]) -> Any:
    """Return status, header names in order, and content type."""
    names = [name for name, _ in response["headers"]]
    return response["status"], names, dict(response["headers"]).get("content-type")


def assert_alike(simulated: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Compare two responses."""
    assert head_of(simulated) == head_of(recorded)
    assert shape_of_body(simulated) == shape_of_body(recorded)


def assert_usage_consistent(response: dict[str, Any], n: int) -> None:
    """Check that usage adds up: in each object, and the last one over all choices' latest."""
    usages: list[tuple[int | None, dict[str, Any]]] = []
    for chunk in response["chunks"]:
        if "usage" not in chunk:
            continue
        value = parsed(chunk) if chunk.startswith("data: ") else orjson.loads(chunk)
        usages.append((value["choices"][0]["index"] if value["choices"] else None, value["usage"]))
    for _, usage in usages:
        assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
    latest = {index: usage for index, usage in usages if index is not None}
    if len(usages) < 2 or not latest:
        return
    final = usages[-1][1]
    assert final["completion_tokens"] == sum(usage["completion_tokens"] for usage in latest.values())
    assert final["prompt_tokens"] == sum(latest[index]["prompt_tokens"] for index in range(0, len(latest), n))


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    """Run a replica of the recorded one's size."""
    with running_sim("--max-model-len", "2048", "--block-size", "32", "--decode-ms-per-token", "0.5") as process:
        yield process


@pytest.mark.parametrize("name", REPLAYED)
async def test_answers_in_the_recorded_shape(sim: SimProcess, name: str) -> None:
    request, recorded = TRANSCRIPTS[name]["request"], TRANSCRIPTS[name]["response"]
    case = Case(name, request["method"], request["path"], request["body"], request["raw"], request["headers"])
    simulated = (await record(sim.address, case))["response"]
    assert_alike(simulated, recorded)
    if request["method"] == "POST" and recorded["status"] == 200:
        n = (request["body"] or {}).get("n") or 1
        assert_usage_consistent(simulated, n)
        assert_usage_consistent(recorded, n)


@pytest.mark.parametrize("name", ["103-chat-stop", "126-chat-stream-stop"])
async def test_a_stop_string_ends_in_the_recorded_shape(sim: SimProcess, name: str) -> None:
    request, recorded = TRANSCRIPTS[name]["request"], TRANSCRIPTS[name]["response"]
    plain = await sim.ask("POST", request["path"], {**request["body"], **WHOLE})
    text = plain["choices"][0]["message"]["content"]
    simulated = await sim.transcript(request["path"], {**request["body"], "stop": [text[3:6]]})
    assert head_of(simulated) == head_of(recorded)
    ends = [shape_of_body(response)[-3:] for response in (simulated, recorded)]
    assert ends[0] == ends[1]
    shown = "".join(simulated["chunks"])
    assert '"finish_reason":"stop","stop_reason":' + json.dumps(text[3:6], ensure_ascii=False) in shown


async def test_a_full_queue_is_refused_as_recorded() -> None:
    with running_sim("--max-num-seqs", "1", "--max-num-queued-reqs", "1") as sim:
        busy = [await send(sim.address, BUSY) for _ in range(2)]
        await sim.until(running=1, waiting=1)
        for name in ("400-overload", "401-overload-stream", "402-overload-completion-stream"):
            request, recorded = TRANSCRIPTS[name]["request"], TRANSCRIPTS[name]["response"]
            assert_alike(await sim.transcript(request["path"], request["body"]), recorded)
        for _, writer in busy:
            writer.close()
        await sim.until(running=0, waiting=0, aborted=2)


async def test_sigterm_aborts_what_runs_as_recorded() -> None:
    with running_sim("--decode-ms-per-token", "10") as sim:
        requests = [chat("", max_tokens=2000, **CONTINUOUS), chat("", max_tokens=2000)]
        running = [asyncio.create_task(record(sim.address, request)) for request in requests]
        await sim.until(running=2)
        while (await sim.stats())["generated_tokens"] < 8 * KEPT_AT_EACH_END:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        sim.process.send_signal(signal.SIGTERM)
        stream, plain = [transcript["response"] for transcript in await asyncio.gather(*running)]
        assert await asyncio.to_thread(sim.process.wait, 10) == 0
    assert_alike(plain, TRANSCRIPTS["411-abort"]["response"])
    assert_ends_alike(stream, TRANSCRIPTS["410-abort-stream"]["response"])
    assert_usage_consistent(stream, 1)


async def test_a_dead_engine_is_told_as_recorded(sim: SimProcess) -> None:
    await sim.ask("POST", "/sim/faults", {"kind": "engine_dead", "after_tokens": 9, "count": 2})
    for name, compare in (("413-crash", assert_alike), ("412-crash-stream", assert_ends_alike)):
        request, recorded = TRANSCRIPTS[name]["request"], TRANSCRIPTS[name]["response"]
        compare(await sim.transcript(request["path"], request["body"]), recorded)
    assert (await sim.ask("GET", "/sim/faults"))["faults"] == []


def assert_ends_alike(simulated: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Compare two long streams by their heads, their first frames and their last."""
    assert head_of(simulated) == head_of(recorded)
    first, last = slice(KEPT_AT_EACH_END), slice(-KEPT_AT_EACH_END, None)
    for part in (first, last):
        ours, theirs = ([parsed(chunk) for chunk in one["chunks"][part]] for one in (simulated, recorded))
        assert [shape(frame) for frame in ours] == [shape(frame) for frame in theirs]


def test_the_shape_tells_answers_apart() -> None:
    recorded = TRANSCRIPTS["122-chat-stream-continuous"]["response"]
    first, *rest = recorded["chunks"]
    for broken in (
        first.replace('"completion_tokens":0,"completion_tokens_details":null', '"completion_tokens":0'),
        first.replace('"role":"assistant","content":""', '"content":"","role":"assistant"'),
        first.replace('"prompt_text":null', '"prompt_text":""'),
    ):
        assert broken != first
        with pytest.raises(AssertionError):
            assert_alike({**recorded, "chunks": [broken, *rest]}, recorded)
    with pytest.raises(AssertionError):
        assert_alike({**recorded, "chunks": [first + rest[0], *rest[1:]]}, recorded)
