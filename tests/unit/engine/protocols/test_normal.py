"""The bound on a normalized text holds without normalizing it, and takes no time that grows with its square."""

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.protocols.normal import _growth, bytes_max

FORMS = ("NFC", "NFKC")
ODD = [*"aeiou\u1100\u1161\u11a8\uac00\u4e2d\ufdfa\U0001d160", *sorted(_growth()[2])[::7], *sorted(_growth()[1])[::97]]


@given(st.text() | st.text(st.sampled_from(ODD)))
@example("\u00e0\u0323")
@example("\U0001d160" * 40 + "\ufdfa")
def test_no_form_is_longer(text: str) -> None:
    forms = [unicodedata.normalize(form, text) for form in FORMS]  # type: ignore[arg-type]
    assert bytes_max(text) >= max(len(form.encode()) for form in (text, *forms))


def test_no_character_composes_into_more_than_its_parts() -> None:
    for number in (*range(0xD800), *range(0xE000, 0x110000)):
        character = chr(number)
        parts = unicodedata.normalize("NFD", character)
        if parts != character and unicodedata.normalize("NFC", parts) == character:
            assert len(character.encode()) <= len(parts.encode())


def test_no_character_grows_beyond_the_factor() -> None:
    alone, apart, _ = _growth()
    assert all((len(c.encode()) + extra[c]) <= 11 * len(c.encode()) for extra in (alone, apart) for c in extra)


@pytest.mark.parametrize("text", ["caf\u00e9 ", "\u4e2d\u6587\uff0c\u3002", "\ud55c\uad6d\uc5b4 ", "e\u0301"])
def test_what_people_write_counts_as_it_is(text: str) -> None:
    assert bytes_max(text * 1000) == len((text * 1000).encode())


def test_marks_in_the_wrong_order_cost_no_more_than_others() -> None:
    text = "a" + "\u0300\u0316" * 100_000  # to put these in order takes over ten seconds
    bytes_max("\u00e9")
    begun = time.process_time()
    assert bytes_max(text) >= len(text.encode())
    assert time.process_time() - begun < 1
