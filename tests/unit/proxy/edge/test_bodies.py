"""Bytes of bodies are counted over all requests, and given back however a request ends."""

from contextlib import suppress

import pytest

from proxy.edge.bodies import Bodies
from proxy.errors import ApiError, Code


def test_there_is_room_for_so_many_bytes_and_no_more() -> None:
    bodies = Bodies()
    with bodies.share(10) as one, bodies.share(10) as other:
        one.take(4)
        one.take(4)
        with pytest.raises(ApiError) as caught:
            other.take(3)
        assert (caught.value.code, caught.value.retry_after_s) == (Code.OVERLOADED, 1)
        other.take(2)
    assert bodies.held == 0


def test_a_fault_gives_back_too() -> None:
    bodies = Bodies()
    with suppress(LookupError), bodies.share(10) as one:
        one.take(10)
        raise LookupError
    assert bodies.held == 0
