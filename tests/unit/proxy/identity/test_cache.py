from dataclasses import replace

from proxy.identity.cache import Tokens, Verified
from proxy.identity.keys import VerifyingKey
from proxy.identity.principal import Principal
from proxy.identity.revocation import Origin


def test_what_was_not_asked_for_longest_is_forgotten() -> None:
    tokens = Tokens[int](entries_max=3, chars_max=1000)
    for number, token in enumerate("abc"):
        tokens.keep(token, number)
    assert tokens.find("a") == 0
    tokens.keep("d", 3)
    assert [tokens.find(token) for token in "abcd"] == [0, None, 2, 3]


def test_long_tokens_leave_room_for_fewer() -> None:
    tokens = Tokens[int](entries_max=100, chars_max=100)
    for number in range(50):
        tokens.keep(f"{number:030}", number)
        assert len(tokens) <= 3
    assert tokens.find(f"{49:030}") == 49
    tokens.keep("x" * 101, 0)
    assert len(tokens) == 0, "one that never fits is not kept"
    tokens.keep("x" * 100, 0)
    assert len(tokens) == 1, "the characters of what was forgotten are given back"


def test_keeping_and_forgetting_again_counts_once() -> None:
    tokens = Tokens[int](entries_max=10, chars_max=10)
    for number in range(20):
        tokens.keep("x" * 10, number)
    assert tokens.find("x" * 10) == 19
    tokens.forget("x" * 10)
    tokens.forget("x" * 10)
    tokens.keep("y" * 10, 1)
    assert tokens.find("y" * 10) == 1


def test_a_token_holds_within_its_time_and_dies_with_its_key() -> None:
    key = VerifyingKey(b"", frozenset({"HS256"}))
    known = Verified(Origin("i", Principal("acme", "ada", "pro"), None, None), key, valid_from=100, valid_until=200)
    assert [known.holds(now) for now in (99.9, 100, 199.9, 200)] == [False, True, True, False]
    assert replace(known, valid_from=-30).holds(0)
    key.retired = True
    assert not known.holds(150)
