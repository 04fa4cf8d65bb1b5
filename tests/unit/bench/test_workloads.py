import orjson

from tests.bench.workloads import PROMPTS, body


def test_a_body_has_the_size_that_the_method_states() -> None:
    assert all(750 <= len(body(number)) <= 850 for number in range(PROMPTS))


def test_every_prompt_is_its_own_and_begins_like_the_others() -> None:
    asked = [orjson.loads(body(number))["messages"] for number in range(PROMPTS)]
    assert len({messages[0]["content"] for messages in asked}) == 1
    assert len({messages[1]["content"] for messages in asked}) == PROMPTS


def test_a_gap_makes_a_stream_and_tells_the_upstream() -> None:
    asked = orjson.loads(body(0, gap_s=0.02))
    assert asked["stream"] is True
    assert asked["messages"][1]["content"].endswith("@@n=100,d=20000@@")
    assert "stream" not in orjson.loads(body(0))
