import json
from typing import Any

import pytest

from engine.faults import UpstreamBroken
from engine.protocols.answer import read_answer
from engine.protocols.usage import Usage
from tests.transcripts import transcript


def body(*choices: dict[str, Any], prompt: int, completion: int) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return json.dumps({"choices": choices, "usage": usage}).encode()


def test_a_real_answer() -> None:
    answer = read_answer(b"".join(transcript("100-chat").chunks), prompts=1)
    assert not answer.aborted
    assert answer.usage.completion_tokens > 0


def test_an_embedding_has_no_choices() -> None:
    answer = read_answer(b'{"data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}', prompts=1)
    assert (answer.usage, answer.aborted) == (Usage(prompt_tokens=7), False)


ABORTED = {"finish_reason": "abort"}


@pytest.mark.parametrize(
    ("choices", "prompts", "completion", "proven"),
    [
        ([ABORTED], 1, 0, Usage()),
        ([ABORTED], 1, 2, Usage(9, 0, 2)),
        ([ABORTED | {"text": "a"}, ABORTED | {"text": ""}], 2, 2, Usage(0, 0, 2)),
        ([ABORTED | {"text": "a"}, {"finish_reason": "stop", "text": "b"}], 2, 2, Usage(9, 0, 2)),
    ],
)
def test_of_an_aborted_answer_a_prompt_counts_with_its_first_token(
    choices: list[dict[str, Any]], prompts: int, completion: int, proven: Usage
) -> None:
    answer = read_answer(body(*choices, prompt=9, completion=completion), prompts=prompts)
    assert (answer.usage, answer.aborted) == (proven, True)


@pytest.mark.parametrize(
    "odd", [b"", b"[]", b"{}", b'{"choices":[1],"usage":{}}', b'{"choices":{},"usage":{"prompt_tokens":-1}}']
)
def test_what_vllm_does_not_send(odd: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        read_answer(odd, prompts=1)
