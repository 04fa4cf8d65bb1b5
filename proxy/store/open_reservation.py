"""
What the reservation script keeps of an open request, read for a sweep.

The lines of the text stand in lua/lib/reservations.lua.
"""

from typing import Any, NamedTuple, Self

import orjson

from policies.pricing import Price
from policies.quota import Limit
from proxy import versions
from proxy.billing import record as records
from proxy.billing.record import ExchangeRecord
from proxy.store import compiled_limits

NOTED = ("replica", "group", "attempts", "queue_ms", "ttft_ms", "wasted_tokens")
"""What is known of an exchange only after it was admitted, beside its tokens."""


class OpenReservation(NamedTuple):
    """A request that nobody has ended, and how far it came."""

    record: ExchangeRecord
    limits: tuple[Limit, ...]
    price: Price | None
    observed: bool
    """Whether the engine has told any usage; it is in the record."""

    @classmethod
    def read(cls, text: str) -> Self:
        """
        Return the open reservation that `reserve` kept and `progress` noted since.

        Raises: ValueError, for what is none; proxy.versions.NewerVersion, which is one.
        """
        try:
            head, _, _, record, limits, price, *progress = text.split("\n")
            versions.check(_version(head))
            found = records.read(record)
            prompt, completion, noted = _progress(progress)
            if noted is not None:
                found = found._replace(**dict(zip(NOTED, orjson.loads(noted), strict=True)))
            found = found._replace(prompt_tokens=prompt or 0, completion_tokens=completion or 0)
            priced = orjson.loads(price)
            return cls(
                found,
                compiled_limits.read(orjson.loads(limits)),
                Price(**priced) if priced else None,
                prompt is not None,
            )
        except (TypeError, AttributeError) as error:
            raise ValueError("not an open reservation") from error


def held_by(text: str) -> int:
    """Return the tokens that an open reservation holds of windows."""
    return int(text.split(" ", 2)[1])


def _version(head: str) -> int:
    """Return the version that the last word of the first line tells, such as `v2`; without it, it is version 2."""
    word = head.rpartition(" ")[2]
    return int(word[1:]) if word.startswith("v") else 2


def noted(record: ExchangeRecord) -> str:
    """Return what `progress` notes of a record beside its tokens, as JSON."""
    return orjson.dumps([getattr(record, name) for name in NOTED]).decode()


def _progress(lines: list[Any]) -> tuple[int | None, int | None, str | None]:
    """Return prompt and completion tokens, None where the engine has told none, and what else was noted."""
    if not lines:
        return None, None, None
    _, prompt, completion, noted = lines[0].split(" ", 3)
    if prompt == "-":
        return None, None, noted
    return int(prompt), int(completion), noted
