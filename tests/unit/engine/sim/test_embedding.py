"""Embeddings: repeatable by seed, counted, refused like the rest."""

import orjson
import pytest

from engine.sim.config import SimConfig
from engine.sim.embedding import DIMENSIONS, embed
from engine.sim.rejection import Rejection

CONFIG = SimConfig()


def test_usage_counts_every_input() -> None:
    tokens, answer = embed({"input": ["hello", "hello world"]}, CONFIG, "embd-1", 7)
    assert tokens == orjson.loads(answer)["usage"]["total_tokens"] == 3
    assert [len(row["embedding"]) for row in orjson.loads(answer)["data"]] == [DIMENSIONS, DIMENSIONS]


def test_the_seed_decides() -> None:
    answers = [embed({"input": "hello"}, SimConfig(seed=seed), "embd-1", 7)[1] for seed in (0, 0, 1)]
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize(("body", "status"), [({"input": ""}, 400), ({}, 400), ({"model": "no", "input": "x"}, 404)])
def test_refusals(body: dict[str, str], status: int) -> None:
    with pytest.raises(Rejection) as refused:
        embed(body, CONFIG, "embd-1", 7)
    assert refused.value.status == status
