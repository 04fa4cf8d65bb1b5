"""
Ids: ULIDs, whose first 48 bits are the time in milliseconds and whose other 80 nobody can foretell.

An id is shown to whoever made a request. So its random part is the system's: from a generator of a known state one id
would tell all later ones, and two would tell how many there were between them.

Source: github.com/ulid/spec; the bits are spelled by `ulid_transform`, whose own random part is such a generator's.
"""

import os
import time

from ulid_transform import bytes_to_ulid

RANDOM_BYTES = 10
BLOCK = 256
"""Random parts that are fetched at once: a call of the system for each would be most of what an id costs."""

_spare: list[bytes] = []


def new_ulid() -> str:
    """Return an id that is like no other."""
    while True:
        try:
            # Taken in one step: two threads never get the same one.
            random = _spare.pop()
        except IndexError:
            _fetch()
        else:
            return bytes_to_ulid((time.time_ns() // 1_000_000).to_bytes(6, "big") + random)


def _fetch() -> None:
    block = os.urandom(BLOCK * RANDOM_BYTES)
    _spare.extend(block[at : at + RANDOM_BYTES] for at in range(0, len(block), RANDOM_BYTES))


# A process that is forked has what its parent had: both would use it.
os.register_at_fork(after_in_child=_spare.clear)
