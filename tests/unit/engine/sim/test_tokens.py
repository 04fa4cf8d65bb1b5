"""Tokens are as a byte-level BPE's: about four bytes of English, never more than the bytes."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from engine.sim import tokens
from engine.sim.tokens import Text

PROSE = (
    "The toll is taken where the road begins, and whoever wishes to travel further shows what was paid. "
    "Nobody is asked twice; those who turn back are given what they have not used."
)


def spell(text: Text, count: int) -> list[tokens.Token]:
    return [next(text) for _ in range(count)]


@given(st.text())
def test_never_more_tokens_than_bytes(text: str) -> None:
    assert len(tokens.encode(text)) <= len(text.encode("utf-8", "surrogatepass"))


def test_prose_has_about_four_bytes_a_token() -> None:
    assert 3 <= len(PROSE) / len(tokens.encode(PROSE)) <= 5


@given(st.lists(st.tuples(st.sampled_from(["user", "system", "assistant"]), st.text()), min_size=1, max_size=5))
def test_a_message_costs_its_bytes_and_a_handful(messages: list[tuple[str, str]]) -> None:
    size = sum(len(content.encode("utf-8", "surrogatepass")) for _, content in messages)
    assert len(tokens.encode_chat(messages)) <= size + 8 * (len(messages) + 1)


def test_equal_beginnings_are_equal_tokens() -> None:
    one = tokens.encode_chat([("system", PROSE), ("user", "one")])
    two = tokens.encode_chat([("system", PROSE), ("user", "two")])
    same = len(tokens.encode(PROSE))
    assert one[:same] == two[:same]
    assert one != two


def test_a_text_depends_on_seed_prompt_and_choice_only() -> None:
    first, again = Text(1, [5, 6], 0, 40), Text(1, [5, 6], 0, 40)
    assert spell(first, 50) == spell(again, 50)
    assert first.natural_tokens == again.natural_tokens
    others = [Text(2, [5, 6], 0, 40), Text(1, [5, 7], 0, 40), Text(1, [5, 6], 1, 40)]
    assert all(spell(other, 50) != spell(Text(1, [5, 6], 0, 40), 50) for other in others)


def test_natural_lengths_vary_around_their_mean() -> None:
    lengths = [Text(seed, [1], 0, 40).natural_tokens for seed in range(200)]
    assert 20 <= min(lengths) < max(lengths) <= 60
    assert 35 < sum(lengths) / len(lengths) < 45
    assert Text(0, [1], 0, 1).natural_tokens >= 1


def test_what_was_generated_is_tokenized_as_it_was_generated() -> None:
    written = list(islice(Text(3, [1], 0, 40)._tokens, 300))
    again = tokens.encode("".join(token.text for token in written))
    assert again == [token.id for token in written]
