"""Places are counted, in all and for each address, and what is given back can be taken again."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.edge.connections import Connections
from proxy.errors import Code


def test_a_place_too_many() -> None:
    connections = Connections(total_max=3, per_address_max=2)
    assert [connections.enter("a"), connections.enter("a"), connections.enter("b")] == [None, None, None]
    refused = connections.enter("c")
    assert refused is not None
    assert refused.code is Code.OVERLOADED
    connections.leave("b")
    refused = connections.enter("a")
    assert refused is not None
    assert (refused.code, refused.retry_after_s) == (Code.CONCURRENCY_LIMIT_EXCEEDED, 1)


@given(st.lists(st.sampled_from("abc")))
def test_what_is_given_back_leaves_nothing(addresses: list[str]) -> None:
    connections = Connections(total_max=5, per_address_max=2)
    entered = [address for address in addresses if connections.enter(address) is None]
    assert connections.total == len(entered) <= 5
    for address in entered:
        connections.leave(address)
    assert connections == Connections(total_max=5, per_address_max=2)
