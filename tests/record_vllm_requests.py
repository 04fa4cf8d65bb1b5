"""
Record what vLLM's own request models take, as test data: run by hand, by the Python that vLLM is installed in.

    python tests/record_vllm_requests.py > tests/data/vllm-0.32.0-requests.json

Of each endpoint: the names of its fields, and of each field that the gateway counts on what becomes of odd values,
which pydantic reads leniently. A value that is refused has no `taken`.
"""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ValidationError


def model_of(module: str, name: str) -> type[BaseModel]:
    """Return a model of vLLM's, which is installed where this runs and nowhere else."""
    found: type[BaseModel] = getattr(import_module(f"vllm.entrypoints.{module}"), name)
    return found


REFUSED = import_module("vllm.exceptions").VLLMValidationError
MODELS: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "chat": (
        model_of("openai.chat_completion.protocol", "ChatCompletionRequest"),
        {"model": "demo", "messages": [{"role": "user", "content": "hi"}]},
    ),
    "completions": (model_of("openai.completion.protocol", "CompletionRequest"), {"model": "demo", "prompt": "hi"}),
    "embeddings": (
        model_of("pooling.embed.protocol", "EmbeddingCompletionRequest"),
        {"model": "demo", "input": "hi"},
    ),
}
INTEGERS: list[Any] = [
    *(
        3,
        3.0,
        3.5,
        1e3,
        1e300,
        True,
        False,
        "3",
        " 3 ",
        "\n3",
        "+3",
        "-3",
        "-0",
        "003",
        "3.0",
        "3.",
        "3.00",
        "3.5",
        ".0",
    ),
    *("3e0", "1_0", "_1", "1__0", "1_0.0", "0x3", "\uff13", "\u0663", "3 0", "", " ", "many", "null", "NaN", "9" * 30),
    *([3], {"a": 3}, []),
]
BOOLEANS: list[Any] = [
    *(True, False, 1, 0, 2, -1, 1.0, 0.0, 0.5, "true", "True", "TRUE", "tRuE", "false", "1", "0", "yes", "no", "on"),
    *("off", "y", "n", "t", "f", "Y", "Off", " true", "true ", "", "2", "1.0", "null", [], [True], {}),
]
PROMPTS: list[Any] = [
    *("hi", "", ["hi"], ["hi", "you"], [1, 2], [[1, 2], [3]], [1.0, 2.0], [1.5], ["1", "2"], [["1"], ["2"]], [[1.0]]),
    *([True], [[True]], [1, "2"], ["a", 1], [1, [2]], [[1], "a"], ["a", ["b"]], [-1], [[-1]], [], [[]], [[1], []]),
    *([None], 7, True, {"prompt": "a"}, [{"prompt": "a"}]),
]
STOPS: list[Any] = ["a", "", ["a"], [], [1], 1, True, ["a", None], {"a": 1}, [["a"]]]
COUNTED: list[tuple[str, str, list[Any]]] = [
    *(("chat", name, INTEGERS) for name in ("n", "max_tokens", "max_completion_tokens", "min_tokens", "top_logprobs")),
    *(("completions", name, INTEGERS) for name in ("n", "max_tokens", "min_tokens", "logprobs")),
    *(("chat", name, BOOLEANS) for name in ("stream", "logprobs")),
    *(("completions", name, BOOLEANS) for name in ("stream", "echo")),
    *(("chat", f"stream_options.{name}", BOOLEANS) for name in ("include_usage", "continuous_usage_stats")),
    ("completions", "prompt", PROMPTS),
    ("embeddings", "input", PROMPTS),
    *((endpoint, "stop", STOPS) for endpoint in ("chat", "completions")),
]


def asked(field: str, value: Any) -> dict[str, Any]:
    """Return the fields of a request that has this value there."""
    outer, _, inner = field.partition(".")
    if field == "top_logprobs":
        return {"logprobs": True, field: value}
    return {"stream": True, outer: {inner: value}} if inner else {outer: value}


def verdicts() -> Iterator[dict[str, Any]]:
    """Yield what becomes of each value."""
    for endpoint, field, values in COUNTED:
        model, minimal = MODELS[endpoint]
        for value in values:
            row = {"endpoint": endpoint, "field": field, "value": value}
            try:
                taken: Any = model.model_validate(minimal | asked(field, value))
            except (ValidationError, REFUSED, TypeError):
                yield row
                continue
            for name in field.split("."):
                taken = getattr(taken, name)
            yield row | {"taken": taken}


def main() -> None:
    """Write all of it as JSON, a row a line."""
    fields = {endpoint: sorted(model.model_fields) for endpoint, (model, _) in MODELS.items()}
    rows = ",\n".join(json.dumps(row) for row in verdicts())
    sys.stdout.write(f'{{"fields": {json.dumps(fields, indent=1)},\n"verdicts": [\n{rows}\n]}}\n')


if __name__ == "__main__":
    main()
