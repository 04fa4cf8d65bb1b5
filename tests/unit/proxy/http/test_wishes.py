"""What a client asks for by headers beside its body."""

import pytest

from proxy.errors import InvalidRequest
from proxy.http.wishes import Wishes, wishes
from tests.unit.proxy.played_client import PlayedClient


def wished(name: str, value: str) -> Wishes:
    return wishes(PlayedClient(b"", {name: value}).downstream())


async def test_most_ask_for_nothing() -> None:
    assert wishes(PlayedClient().downstream()) == (None, "", False, False)


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\t", "caf\u00e9"])
async def test_what_is_no_key_is_told(key: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 255 printable ASCII"):
        wished("idempotency-key", key)


@pytest.mark.parametrize("key", ["x", "x" * 255, " ~!{}:%"])
async def test_what_is_a_key(key: str) -> None:
    assert wished("idempotency-key", key) == Wishes(once=key)


@pytest.mark.parametrize("name", ["", "x" * 513, "tab\t", "caf\u00e9"])
async def test_what_is_no_name_of_a_request_is_told(name: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 512 printable ASCII"):
        wished("x-client-request-id", name)


async def test_a_clients_own_name_of_its_request_is_taken_as_it_is() -> None:
    assert wished("x-client-request-id", "x" * 512) == Wishes(request_id="x" * 512)


async def test_a_client_may_ask_for_real_statuses() -> None:
    assert wished("x-tollway-head", "hold") == Wishes(holds_head=True)
    with pytest.raises(InvalidRequest, match="may only say `hold`"):
        wished("x-tollway-head", "now")


async def test_a_stream_tells_its_charge_to_who_asks() -> None:
    assert wished("x-tollway-charge", "stream") == Wishes(tells_charge=True)
    with pytest.raises(InvalidRequest, match="`stream`"):
        wished("x-tollway-charge", "yes")
