from typing import Any

import pytest

from engine.protocols.usage import RunningUsage, Usage, usage_of


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 7}, Usage(5, 0, 7)),
        ({"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": None}, Usage(5, 0, 7)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(5, 4, 0)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": None}}, Usage(5, 0, 0)),
        ({"prompt_tokens": 5, "completion_tokens": None, "total_tokens": 5}, Usage(5, 0, 0)),
    ],
)
def test_usage_as_the_api_tells_it(told: dict[str, Any], usage: Usage) -> None:
    assert usage_of(told) == usage


def test_choices_of_one_prompt_share_it() -> None:
    running = RunningUsage(n=2)
    running.see(0, Usage(10, 0, 3))
    running.see(1, Usage(10, 0, 2))
    running.see(0, Usage(10, 0, 4))
    assert running.so_far == Usage(10, 0, 6)


def test_each_prompt_of_a_list_counts_once() -> None:
    running = RunningUsage(n=2)
    for index, prompt in enumerate((10, 10, 20, 20)):
        running.see(index, Usage(prompt, 0, 1))
    assert running.so_far == Usage(30, 0, 4)


def test_a_count_never_falls() -> None:
    running = RunningUsage(n=1)
    running.see(0, Usage(10, 0, 5))
    running.see(0, Usage(10, 0, 0))
    assert running.so_far == Usage(10, 0, 5)


def test_the_engines_own_sum_has_the_last_word() -> None:
    running = RunningUsage(n=1)
    running.see(0, Usage(10, 0, 5))
    assert running.final is None
    running.see(None, Usage(10, 8, 5))
    assert running.so_far == running.final == Usage(10, 8, 5)


def test_before_any_usage_nothing_is_known() -> None:
    running = RunningUsage(n=1)
    assert running.so_far is running.proven is None


def test_a_sum_without_a_token_is_of_nothing() -> None:
    running = RunningUsage(n=1)
    running.see(0, Usage(18, 0, 0))
    assert (running.so_far, running.proven) == (Usage(18, 0, 0), None)
    running.see(None, Usage(18, 0, 0))
    assert running.so_far == running.proven == Usage()


def test_of_an_aborted_list_only_the_prompts_that_began_are_proven() -> None:
    running = RunningUsage(n=2)
    for choice, completion in ((0, 3), (1, 0), (2, 0), (3, 0)):
        running.see(choice, Usage(10 + choice // 2, 0, completion))
    assert running.proven == Usage(10, 0, 3)
    running.see(None, Usage(10 + 11 + 12, 0, 3))
    assert running.proven == Usage(10, 0, 3)


def test_of_an_aborted_answer_that_began_the_sum_is_proven() -> None:
    running = RunningUsage(n=1)
    running.see(0, Usage(18, 0, 3))
    running.see(None, Usage(18, 16, 3))
    assert running.proven == Usage(18, 16, 3)
