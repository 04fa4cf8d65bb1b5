"""
/v1/embeddings: a unit vector for each input, and its usage.

A real replica serves either embeddings or generation (the recorded one answers 404); this one serves both, so that one
simulated fleet is enough to test a gateway.
"""

import math
import random
from typing import Any

import orjson

from engine.sim.body import Body, check_model
from engine.sim.config import SimConfig
from engine.sim.job import prompts_of
from engine.sim.rejection import BadParameter
from engine.sim.wire import usage

DIMENSIONS = 16


def embed(body: Body, config: SimConfig, answer_id: str, created: int) -> tuple[int, bytes]:
    """
    Return how many prompt tokens the inputs have, and the answer.

    Raises: Rejection.
    """
    check_model(body, config)
    if not body.get("input"):
        raise BadParameter("Either input or messages must be provided and non-empty.", "input")
    prompts = prompts_of(body["input"])
    total = sum(map(len, prompts))
    data = [
        {"index": index, "object": "embedding", "embedding": _vector(config.seed, prompt)}
        for index, prompt in enumerate(prompts)
    ]
    head: dict[str, Any] = {"id": answer_id, "object": "list", "created": created, "model": config.models[0]}
    return total, orjson.dumps(head | {"data": data, "usage": usage(total, 0) | {"prompt_tokens_details": None}})


def _vector(seed: int, prompt: list[int]) -> list[float]:
    draw = random.Random(hash((seed, *prompt))).gauss
    raw = [draw(0.0, 1.0) for _ in range(DIMENSIONS)]
    length = math.sqrt(sum(one * one for one in raw))
    return [one / length for one in raw]
