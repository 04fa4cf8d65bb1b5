"""
The simulated replica answers as the real one was recorded to: every transcript, replayed on a real socket.

Compared is the shape, as `tests.shapes` has it.
"""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.record_vllm import BUSY, BY_ID, CONTINUOUS, KEPT_AT_EACH_END, ById, Case, chat, ends_of, record, send
from tests.shapes import assert_alike, assert_ends_alike, assert_usage_consistent, head_of, shape_of_body
from tests.sim_process import SimProcess, running_sim

FOLDER = Path(__file__).parent.parent / "data" / "vllm-0.32.0"
TRANSCRIPTS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
NOT_ALONE = {
    "103-chat-stop": "the text to stop at is the model's own",
    "126-chat-stream-stop": "the text to stop at is the model's own",
    "330-embeddings-on-a-generator": "the simulation embeds, too",
}
UNDER_CIRCUMSTANCES = {name for name in TRANSCRIPTS if "400" <= name < "430"}
REPLAYED = [name for name in TRANSCRIPTS if name not in NOT_ALONE and name not in UNDER_CIRCUMSTANCES]
WHOLE = {"stop": None, "stream": False, "stream_options": None}


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


@pytest.mark.parametrize("by_id", BY_ID, ids=lambda by_id: by_id.case.name)
async def test_a_request_aborted_by_its_id_ends_as_recorded(sim: SimProcess, by_id: ById) -> None:
    await sim.ask("POST", "/sim/faults", {"kind": "hang", "after_tokens": 0 if by_id.held else 9})
    recorded = TRANSCRIPTS[by_id.case.name]["response"]
    before = await sim.stats()
    try:
        aborted = asyncio.create_task(record(sim.address, by_id.case))
        running = len(by_id.ids) * (by_id.case.body or {}).get("n", 1)
        await sim.until(running=running)
        tokens = 0 if by_id.held else 9 * running
        await sim.until(generated_tokens=before["generated_tokens"] + tokens)
        answer = await sim.ask("POST", "/abort_requests", {"request_ids": by_id.ids})
    finally:
        await sim.ask("DELETE", "/sim/faults")
    simulated = ends_of(await aborted)["response"]
    assert answer == {"status": "aborted", "aborted": len(by_id.ids)}
    (assert_ends_alike if "elided" in recorded else assert_alike)(simulated, recorded)


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
