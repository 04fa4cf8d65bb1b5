import pytest

from policies.estimate import HOLD_US_START, HoldTimes, prompt_bound, smoothed_hold_us


@pytest.mark.parametrize(
    ("text_bytes", "token_ids", "prompts", "bound"),
    [
        (100, 0, 1, 164),
        (100, 0, 3, 292),
        (0, 50, 1, 114),
        (100, 50, 2, 278),
        (1_000_000, 0, 1, 8_192),
        (1_000_000, 0, 2, 16_384),
    ],
    ids=["bytes and template", "a template each", "ids", "both", "never over the context", "a context each"],
)
def test_the_most_tokens_that_prompts_can_have(text_bytes: int, token_ids: int, prompts: int, bound: int) -> None:
    assert bound == prompt_bound(
        text_bytes=text_bytes, token_ids=token_ids, prompts=prompts, template_tokens=64, context_tokens=8_192
    )


@pytest.mark.parametrize("sample_us", [0, 1_000, 60_000_000])
def test_an_expectation_moves_towards_what_it_sees_and_arrives(sample_us: int) -> None:
    expected = HOLD_US_START
    first = smoothed_hold_us(expected, sample_us)
    assert min(expected, sample_us) <= first <= max(expected, sample_us)
    assert abs(first - sample_us) < abs(expected - sample_us)
    for _ in range(1_000):
        expected = smoothed_hold_us(expected, sample_us)
    assert abs(expected - sample_us) < 16


def test_how_long_requests_take_is_learned_for_each_model() -> None:
    holds = HoldTimes()
    for _ in range(200):
        holds.ended("demo", 1_000_000)
    assert holds.expected_us("demo") == pytest.approx(1_000_000, rel=0.01)
    assert holds.expected_us("other") == HOLD_US_START
