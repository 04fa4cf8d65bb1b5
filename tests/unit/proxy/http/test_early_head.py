import asyncio

import pytest

from proxy.http.early_head import EarlyHead
from tests.unit.proxy.played_client import PlayedClient


async def test_it_goes_out_once_the_time_is_over() -> None:
    client = PlayedClient()
    downstream = client.downstream()
    with EarlyHead(downstream, 0, lambda: b"x-a: 1\r\n"):
        await asyncio.sleep(0.01)
        assert (downstream.started, downstream.delivered) == (True, False)
    assert client.answer == b": waiting\n\n"
    assert client.answer_headers["x-a"] == "1"


@pytest.mark.parametrize("after_s", [None, 0.02])
async def test_it_does_not_go_out_before_or_without_one(after_s: float | None) -> None:
    client = PlayedClient()
    downstream = client.downstream()
    with EarlyHead(downstream, after_s, lambda: b""):
        await asyncio.sleep(0)
    await asyncio.sleep(0.04)
    assert (downstream.started, client.messages) == (False, [])


async def test_an_answer_that_has_begun_is_left_alone() -> None:
    client = PlayedClient()
    downstream = client.downstream()
    with EarlyHead(downstream, 0, lambda: b"x-a: 1\r\n"):
        downstream.head(200, b"x-b: 2\r\n")
        downstream.write(b"data: 1\n\n")
        await asyncio.sleep(0.01)
    assert client.answer == b"data: 1\n\n"
    assert "x-a" not in client.answer_headers
