"""
Text to tokens and seeded text: a stand-in for a model's tokenizer, chat template and sampling.

Rules: about four bytes of English a token; never more tokens than UTF-8 bytes, as with a byte-level BPE; a chat message
costs its role, its content and four tokens of template. A token's id is a hash of its spelling, so what was generated
is tokenized to the same ids when it comes back in the next turn's prompt.

Pure: the seed is an argument.
"""

import random
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

VOCABULARY = 151_936
MESSAGE_START, MESSAGE_END = 0, 1
_FIRST_ORDINARY = 2

_PIECE = re.compile(r" ?[A-Za-z]{1,6}(?![A-Za-z])| ?[A-Za-z]{1,3}|\d{1,3}|.", re.DOTALL)
"""A short word with its space is one token, a long one goes by threes, anything else character by character."""

_WORDS = (
    "the a of and to in is you that it was for on are as with they at be this have from or one had by word but not "
    "what all were we when your can said there use an each which she do how their if will up other about out many "
    "then them these so some her would make like him into time has look two more write go see number no way could "
    "people my than first water been call who oil its now find long down day did get come made may part café über 世界"
).split()


class Token(NamedTuple):
    """One token: its id and its spelling."""

    id: int
    text: str


def token(text: str) -> Token:
    """Return the token spelled `text`."""
    return Token(_FIRST_ORDINARY + crc32(text.encode()) % (VOCABULARY - _FIRST_ORDINARY), text)


def encode(text: str) -> list[int]:
    """Return the token ids of a text. Bounds: no more than its UTF-8 bytes."""
    return [token(piece).id for piece in _PIECE.findall(text)]


def encode_chat(messages: Sequence[tuple[str, str]]) -> list[int]:
    """Return the token ids of (role, content) messages in a ChatML template, ready for the assistant's turn."""
    ids: list[int] = []
    for role, content in messages:
        ids += [MESSAGE_START, *encode(role), *encode("\n"), *encode(content), MESSAGE_END, *encode("\n")]
    return [*ids, MESSAGE_START, *encode("assistant"), *encode("\n")]


class Text:
    """
    An endless text that a seed and a prompt determine, and the length at which it would end by itself.

    `choice` tells the n texts of one prompt apart.
    """

    def __init__(self, seed: int, prompt: Sequence[int], choice: int, natural_tokens: int) -> None:
        self._random = random.Random(hash((seed, choice, *prompt)))
        self.natural_tokens = max(1, self._random.randint(natural_tokens // 2, natural_tokens * 3 // 2))
        self._tokens = self._spell()

    def __next__(self) -> Token:
        """Return the next token."""
        return next(self._tokens)

    def _spell(self) -> Iterator[Token]:
        choose, chance = self._random.choice, self._random.random
        yield token(choose(_WORDS[:80]).capitalize())
        while True:
            word = choose(_WORDS)
            yield from map(token, _PIECE.findall(f" {word}"))
            if chance() < 0.08:
                yield token(choose(".,!?"))
