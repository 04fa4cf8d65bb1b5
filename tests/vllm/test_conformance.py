"""
The simulated replica answers as a real one does now: the same requests to both, on real sockets.

`tests/integration/test_sim_conformance.py` compares the simulation with what vLLM was recorded to answer; this compares
it with the vLLM that is installed, so that a newer one's drift shows.
"""

from collections.abc import Iterator

import pytest

from tests.record_vllm import CASES, Case, record
from tests.shapes import assert_alike, assert_usage_consistent, shape_of_body
from tests.sim_process import SimProcess, running_sim
from tests.vllm.fleet import Fleet

NOT_ALIKE = {
    "103-chat-stop": "the text to stop at is the model's own",
    "126-chat-stream-stop": "the text to stop at is the model's own",
    "326-tool-choice-auto": "the replicas of these tests have a tool parser, the simulation has none",
    "330-embeddings-on-a-generator": "the simulation embeds, too",
}
TRIES = 5
"""A busy vLLM may put all tokens into one frame; asked again, it does not."""
COMPARED = [case for case in CASES if case.name not in NOT_ALIKE]


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    """Run a simulated replica of the real one's size."""
    with running_sim("--max-model-len", "2048", "--block-size", "32", "--decode-ms-per-token", "0.5") as process:
        yield process


@pytest.mark.parametrize("case", COMPARED, ids=lambda case: case.name)
async def test_the_simulation_answers_as_vllm_does(fleet: Fleet, sim: SimProcess, case: Case) -> None:
    address = fleet.gateway.replica_url("demo-0").removeprefix("http://")
    simulated, real = [(await record(at, case))["response"] for at in (sim.address, address)]
    for _ in range(TRIES - 1):
        if shape_of_body(simulated, merged=True) == shape_of_body(real, merged=True):
            break
        real = (await record(address, case))["response"]
    assert_alike(simulated, real, merged=True)
    if case.method == "POST" and real["status"] == 200:
        for response in (real, simulated):
            assert_usage_consistent(response, (case.body or {}).get("n") or 1)
