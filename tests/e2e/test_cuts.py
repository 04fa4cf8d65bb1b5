"""
Every point at which an exchange can be cut, over real sockets: the bill, the quota, and that nothing stays behind.

The bill of a cut is the last usage that the gateway received: what the client read is never more than it.
"""

import asyncio
import json
import signal
import statistics
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.fleet.replica import SILENCES_MAX
from tests.e2e.bare_client import TOKEN, ask
from tests.e2e.gateway import Running, gateway_of
from tests.sim_process import SimProcess, running_sim

CONFIG = Path(__file__).with_name("cuts.toml")
PROMPT_TOKENS_MAX = 64
ABORT_S_MAX = 0.1
"""DESIGN's bound for an idle machine; asserted of the median, since this one may be busy."""


@dataclass(frozen=True)
class Cuts:
    """A gateway and its one replica."""

    running: Running
    sim: SimProcess

    async def ended(self, user: str) -> dict[str, Any]:
        """Wait until nothing is held, and return the one record of a user, which the ledger and the quota bear out."""
        await self.running.eventually("tollway_reservations_open", 0, within_s=5)
        assert self.running.metrics("tollway_inflight_requests") == 0
        await self.sim.until(active=0, running=0)
        [record] = records(self.running, user)
        [row] = [row for row in self.running.usage("user") if row["user"] == user]
        assert row["requests"] == 1
        assert (row["prompt_tokens"], row["completion_tokens"]) == tokens(record)
        async with self.running.client(self.running.bearer("acme", user)) as client:
            [limit] = (await client.get("/v1/quota")).json()["limits"]
        unobserved = record["source"] == "unobserved"
        assert limit["used"] == sum(tokens(record)) + (record["wasted_tokens"] if unobserved else 0)
        return record


def records(running: Running, user: str) -> list[dict[str, Any]]:
    """Return what the log says of a user's exchanges."""
    lines = [json.loads(line) for line in (running.folder / "log").read_text().splitlines()]
    return [line for line in lines if line["event"] == "exchange" and line["user"] == user]


def tokens(record: dict[str, Any]) -> tuple[int, int]:
    return record["prompt_tokens"], record["completion_tokens"]


def end(record: dict[str, Any]) -> tuple[str, str]:
    return record["outcome"], record["source"]


def elsewhere(sim: SimProcess) -> dict[str, str]:
    """Return the environment that tells a gateway where its replica is."""
    return {f"TOLLWAY__MODELS__{model}__REPLICAS__0__URL": f"http://{sim.address}" for model in (0, 1)}


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    with running_sim(
        "--model", "telling", "--model", "silent", "--decode-ms-per-token", "5", "--max-num-seqs", "256"
    ) as process:
        yield process


@pytest.fixture(scope="module")
def running(sim: SimProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with gateway_of(CONFIG, tmp_path_factory.mktemp("cuts"), environment=elsewhere(sim)) as started:
        yield started


@pytest.fixture
async def cuts(running: Running, sim: SimProcess) -> AsyncIterator[Cuts]:
    yield Cuts(running, sim)
    await sim.ask("DELETE", "/sim/faults")


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


async def generated(sim: SimProcess, tokens: int) -> None:
    """Wait until the replica has generated so many tokens in its life."""
    async with asyncio.timeout(20):
        stats = await sim.stats()
        while stats["generated_tokens"] < tokens:
            await asyncio.sleep(0.005)
            stats = await sim.stats()


def last_error(answer: bytes) -> str:
    """Return the code of the error that ends a stream."""
    return str(json.loads(answer[answer.rindex(b'{"error"') : answer.rindex(b"}") + 1])["error"]["code"])


# --- a client that hangs up


async def test_before_the_first_frame_nothing_is_proven_and_the_quota_is_kept(cuts: Cuts, user: str) -> None:
    await cuts.sim.ask("POST", "/sim/faults", {"kind": "hang"})
    client = await ask(cuts.running, user, max_tokens=40)
    await cuts.sim.until(running=1)
    client.leave()
    record = await cuts.ended(user)
    assert (end(record), tokens(record), record["charge_picos"]) == (("client_closed", "unobserved"), (0, 0), 0)
    assert 40 < record["wasted_tokens"] < 400
    assert cuts.running.metrics("tollway_waste_tokens_total", reason="unobserved") >= record["wasted_tokens"]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
async def test_a_replica_that_is_aborted_before_its_first_token_proves_nothing(
    cuts: Cuts, user: str, *, stream: bool
) -> None:
    await cuts.sim.ask("POST", "/sim/faults", {"kind": "hang"})
    client = await ask(cuts.running, user, model="telling", stream=stream)
    await cuts.sim.until(running=1)
    client.leave()
    record = await cuts.ended(user)
    assert (end(record), tokens(record)) == (("client_closed", "unobserved"), (0, 0))
    assert record["wasted_tokens"] > 100, "no prefill is free: the quota keeps what may have been used"


async def test_in_a_request_without_stream_nothing_is_proven(cuts: Cuts, user: str) -> None:
    before = (await cuts.sim.stats())["generated_tokens"]
    client = await ask(cuts.running, user, stream=False)
    await generated(cuts.sim, before + 10)
    client.leave()
    record = await cuts.ended(user)
    spent = (await cuts.sim.stats())["generated_tokens"] - before
    assert (end(record), tokens(record)) == (("client_closed", "unobserved"), (0, 0))
    assert record["wasted_tokens"] >= spent >= 10


async def test_in_a_request_without_stream_the_replica_tells_to_the_token(cuts: Cuts, user: str) -> None:
    before = (await cuts.sim.stats())["generated_tokens"]
    client = await ask(cuts.running, user, model="telling", stream=False)
    await generated(cuts.sim, before + 10)
    client.leave()
    record = await cuts.ended(user)
    spent = (await cuts.sim.stats())["generated_tokens"] - before
    assert end(record) == ("client_closed", "cut")
    assert 0 < record["prompt_tokens"] < PROMPT_TOKENS_MAX
    assert record["completion_tokens"] == spent
    assert record["wasted_tokens"] == 0


@pytest.mark.parametrize("model", ["silent", "telling"])
async def test_mid_stream_the_last_usage_received_is_billed(cuts: Cuts, user: str, model: str) -> None:
    before = (await cuts.sim.stats())["generated_tokens"]
    client = await ask(cuts.running, user, model=model)
    await client.until(TOKEN, times=20)
    client.leave()
    record = await cuts.ended(user)
    spent = (await cuts.sim.stats())["generated_tokens"] - before
    assert end(record) == ("client_closed", "cut")
    assert 0 < record["prompt_tokens"] < PROMPT_TOKENS_MAX
    assert client.shown() <= record["completion_tokens"] <= spent < 1_000
    assert record["wasted_tokens"] == 0


async def test_between_the_last_token_and_the_usage_all_tokens_are_billed(cuts: Cuts, user: str) -> None:
    await cuts.sim.ask("POST", "/sim/faults", {"kind": "hold_end"})
    client = await ask(cuts.running, user, max_tokens=10)
    await client.until(b'"finish_reason":"length"')
    client.leave()
    record = await cuts.ended(user)
    assert (end(record), record["completion_tokens"]) == (("client_closed", "cut"), 10)


async def test_hang_ups_reach_the_replica_at_once(cuts: Cuts, user: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Streams and plain requests; with abort by id and without."""
    took_ms: list[float] = []
    for at in range(24):
        model, stream = ("silent", "telling")[at % 2], at % 4 < 2
        before = await cuts.sim.stats()
        client = await ask(cuts.running, f"{user}-{at}", model=model, stream=stream)
        if stream:
            await client.until(TOKEN, times=3)
        else:
            await generated(cuts.sim, before["generated_tokens"] + 3)
        left_us = client.leave()
        after = await cuts.sim.until(active=0, running=0)
        assert after["aborted_at_us"] > left_us
        took_ms.append((after["aborted_at_us"] - left_us) / 1_000)
    with capsys.disabled():
        print(f"[abort after {statistics.median(took_ms):.1f} ms, at most {max(took_ms):.1f}] ", end="")  # noqa: T201
    assert statistics.median(took_ms) < 1_000 * ABORT_S_MAX


async def test_a_client_that_reads_no_further_is_cut_after_its_deadline(cuts: Cuts, user: str) -> None:
    fields: dict[str, Any] = {"logprobs": True, "top_logprobs": 20, "max_tokens": 1_000, "n": 8}
    client = await ask(cuts.running, user, receive_bytes=4_096, **fields)
    await cuts.sim.until(running=8)
    await cuts.sim.until(active=0)
    record = await cuts.ended(user)
    assert end(record) == ("client_closed", "cut")
    assert 0 < record["completion_tokens"] < 8_000
    client.leave()


# --- deadlines


@pytest.mark.parametrize("model", ["silent", "telling"])
async def test_a_replica_without_a_first_token_is_given_up(cuts: Cuts, user: str, model: str) -> None:
    await cuts.sim.ask("POST", "/sim/faults", {"kind": "hang"})
    client = await ask(cuts.running, user, model=model)
    assert b" 504 " in (await client.rest()).split(b"\r\n")[0]
    record = await cuts.ended(user)
    assert (end(record), tokens(record)) == (("upstream_timeout", "unobserved"), (0, 0))


async def test_a_stream_that_falls_silent_is_billed_as_received(cuts: Cuts, user: str) -> None:
    await cuts.sim.ask("POST", "/sim/faults", {"kind": "hang", "after_tokens": 7})
    answer = await (await ask(cuts.running, user)).rest()
    assert last_error(answer) == "stream_truncated"
    record = await cuts.ended(user)
    assert (end(record), record["completion_tokens"]) == (("stream_truncated", "cut"), 7)


async def test_an_exchange_ends_with_its_deadline(cuts: Cuts, user: str) -> None:
    client = await ask(cuts.running, user)
    answer = await client.rest()
    assert last_error(answer) == "stream_truncated"
    record = await cuts.ended(user)
    assert end(record) == ("stream_truncated", "cut")
    assert client.shown() <= record["completion_tokens"] < 5_000


async def test_a_replica_that_hangs_gets_no_work_until_it_answers_a_probe(cuts: Cuts, user: str) -> None:
    await cuts.sim.ask("POST", "/sim/faults", {"kind": "hang"})
    hung = [await ask(cuts.running, f"{user}-{at}") for at in range(SILENCES_MAX)]
    for client in hung:
        assert b" 504 " in await client.rest()
    assert b'"no_replica"' in await (await ask(cuts.running, user)).rest()
    await cuts.running.eventually("tollway_replica_up", 1, within_s=5)  # the other name of it had no requests
    await cuts.sim.ask("DELETE", "/sim/faults")
    await cuts.running.eventually("tollway_replica_up", 2, within_s=15)
    assert b"[DONE]" in await (await ask(cuts.running, f"{user}-again", max_tokens=2)).rest()


# --- replicas that die


@pytest.mark.parametrize("kind", ["crash", "engine_dead", "abort"])
async def test_a_replica_that_fails_mid_stream_is_paid_what_was_received(cuts: Cuts, user: str, kind: str) -> None:
    await cuts.sim.ask("POST", "/sim/faults", {"kind": kind, "after_tokens": 7})
    answer = await (await ask(cuts.running, user)).rest()
    assert last_error(answer) == "stream_truncated"
    assert b"[DONE]" not in answer
    record = await cuts.ended(user)
    assert (end(record), record["completion_tokens"]) == (("stream_truncated", "cut"), 7)


async def test_a_replica_that_shuts_down_ends_its_streams_with_an_abort(folder: Path, user: str) -> None:
    with (
        running_sim("--model", "telling", "--model", "silent") as mortal,
        gateway_of(CONFIG, folder, environment=elsewhere(mortal)) as running,
    ):
        client, whole = await ask(running, user), await ask(running, f"{user}-json", stream=False)
        await client.until(TOKEN, times=5)
        mortal.process.send_signal(signal.SIGTERM)
        answer = await client.rest()
        assert last_error(answer) == "stream_truncated"
        assert b'"abort"' not in answer
        assert b" 502 " in (await whole.rest()).split(b"\r\n")[0]
        await running.eventually("tollway_reservations_open", 0, within_s=5)
        [record] = records(running, user)
        assert end(record) == ("stream_truncated", "cut")
        assert record["completion_tokens"] >= client.shown() >= 4
        [record] = records(running, f"{user}-json")
        assert (end(record), tokens(record)) == (("upstream_error", "cut"), (0, 0))
        assert record["wasted_tokens"] > 0


# --- a gateway that stops


async def test_what_outlasts_the_drain_is_billed_as_received(sim: SimProcess, folder: Path, user: str) -> None:
    with gateway_of(CONFIG, folder, environment=elsewhere(sim) | {"TOLLWAY__LIMITS__EXCHANGE_S_MAX": "60"}) as running:
        clients = [
            await ask(running, f"{user}-{model}-{stream}", model=model, stream=stream)
            for model in ("silent", "telling")
            for stream in (True, False)
        ]
        await sim.until(running=4)
        await clients[0].until(TOKEN, times=3)
        running.process.send_signal(signal.SIGTERM)
        answers = [await client.rest() for client in clients]
        assert await asyncio.to_thread(running.process.wait, 20) == 0
        await sim.until(active=0, running=0)
        for at in (0, 2):
            assert last_error(answers[at]) == "stream_truncated"
        for model in ("silent", "telling"):
            [record] = records(running, f"{user}-{model}-True")
            assert end(record) == ("shutdown", "cut")
            assert record["completion_tokens"] > 0
            [record] = records(running, f"{user}-{model}-False")
            assert (end(record), tokens(record)) == (("shutdown", "cut"), (0, 0))
