"""
How long a text can be in the form a tokenizer reads, without writing it in that form.

Some tokenizers compose or decompose text first (Qwen: NFC; SentencePiece models: NFKC), and that can lengthen it. Doing
so here would cost more than the request is worth: a composed form may have eleven times the bytes, and putting a run of
combining marks in order takes time that grows with its square. So the bound is summed up from the text's distinct
characters, of which only a few thousand ever grow:

- Without combining marks nothing moves between characters: each is as long as its own composed form, or shorter where
  it joins with its neighbour.
- With them, marks may move and part what was composed; then each character counts as its decomposed form, which no
  composition lengthens.

Source: Unicode Standard Annex #15 (unicode.org/reports/tr15); its FAQ has the factor.
"""

import unicodedata
from functools import cache

_EXPANSION_MAX = 11
"""Bytes of UTF-8 that one becomes at most."""
_CHARACTERS_MAX = 2**17
"""Longer texts count with the factor above: no context holds them anyhow."""
_COUNTED_MAX = 8
"""Distinct characters counted one by one; with more of them, each counts as the worst."""


def bytes_max(text: str) -> int:
    """Return the most bytes of UTF-8 that `text` has as it is, in NFC and in NFKC."""
    size = len(text)
    if text.isascii():
        return size
    encoded = len(text.encode())
    if size > _CHARACTERS_MAX:
        return encoded * _EXPANSION_MAX
    alone, apart, marks = _growth()
    characters = set(text)
    extra = alone if characters.isdisjoint(marks) else apart
    growing = characters & extra.keys()
    if len(growing) > _COUNTED_MAX:
        return encoded + size * max(extra[character] for character in growing)
    return encoded + sum(text.count(character) * extra[character] for character in growing)


def prepare() -> None:
    """Make now what the first text beyond ASCII would wait for: it takes 60 milliseconds."""
    _growth()


@cache
def _growth() -> tuple[dict[str, int], dict[str, int], frozenset[str]]:
    """Return by how many bytes characters grow alone, and among combining marks; and those marks."""
    alone: dict[str, int] = {}
    apart: dict[str, int] = {}
    marks: set[str] = set()
    for character in map(chr, (*range(0x80, 0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE1000))):
        if unicodedata.combining(character):
            marks.add(character)
        if unicodedata.is_normalized("NFKD", character):
            continue
        size = len(character.encode())
        decomposed = unicodedata.normalize("NFKD", character)
        if unicodedata.combining(decomposed[0]):
            marks.add(character)
        composed = max(len(unicodedata.normalize(form, character).encode()) for form in ("NFC", "NFKC"))
        longest = max(composed, len(decomposed.encode()), len(unicodedata.normalize("NFD", character).encode()))
        if composed > size:
            alone[character] = composed - size
        if longest > size:
            apart[character] = longest - size
    return alone, apart, frozenset(marks)
