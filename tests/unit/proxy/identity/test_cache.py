from dataclasses import dataclass, replace

from proxy.identity.cache import SECOND_CHANCES_MAX, Tokens, Verified
from proxy.identity.keys import VerifyingKey
from proxy.identity.principal import Principal


@dataclass
class Known:
    number: int
    asked: bool = False


class Numbers(Tokens[Known]):
    """What is known of a token is a number."""

    def put(self, token: str, number: int) -> None:
        self.keep(token, Known(number))

    def number(self, token: str) -> int | None:
        known = self.find(token)
        return None if known is None else known.number


def test_what_was_not_asked_for_longest_is_forgotten() -> None:
    tokens = Numbers(entries_max=3, chars_max=1000)
    for number, token in enumerate("abc"):
        tokens.put(token, number)
    assert tokens.number("a") == 0
    tokens.put("d", 3)
    assert [tokens.number(token) for token in "abcd"] == [0, None, 2, 3]


def test_who_is_asked_for_all_the_time_outlives_many_that_are_seen_once() -> None:
    tokens = Numbers(entries_max=30, chars_max=1000)
    tokens.put("often", 7)
    for number in range(1000):
        tokens.put(str(number), number)
        assert tokens.number("often") == 7
    assert len(tokens) == 30


def test_where_everybody_was_asked_for_somebody_goes_soon() -> None:
    tokens = Numbers(entries_max=10 * SECOND_CHANCES_MAX, chars_max=10_000)
    for number in range(10 * SECOND_CHANCES_MAX):
        tokens.put(str(number), number)
        tokens.number(str(number))
    tokens.put("one more", 0)
    assert len(tokens) == 10 * SECOND_CHANCES_MAX
    assert tokens.number(str(SECOND_CHANCES_MAX)) is None


def test_long_tokens_leave_room_for_fewer() -> None:
    tokens = Numbers(entries_max=100, chars_max=100)
    for number in range(50):
        tokens.put(f"{number:030}", number)
        assert len(tokens) <= 3
    assert tokens.number(f"{49:030}") == 49
    tokens.put("x" * 101, 0)
    assert tokens.number("x" * 101) is None, "one that never fits is not kept"
    tokens.put("x" * 100, 0)
    assert len(tokens) == 1, "the characters of what was forgotten are given back"


def test_keeping_again_counts_once() -> None:
    tokens = Numbers(entries_max=2, chars_max=20)
    for number in range(20):
        tokens.put("x" * 10, number)
    assert tokens.number("x" * 10) == 19
    tokens.put("y" * 10, 1)
    assert (tokens.number("x" * 10), tokens.number("y" * 10)) == (19, 1)


def test_a_token_holds_within_its_time_and_dies_with_its_key() -> None:
    key = VerifyingKey(b"", frozenset({"HS256"}))
    known = Verified(Principal("acme", "ada", "pro"), key, valid_from=100, valid_until=200)
    assert [known.holds(now) for now in (99.9, 100, 199.9, 200)] == [False, True, True, False]
    assert replace(known, valid_from=-30).holds(0)
    key.retired = True
    assert not known.holds(150)
