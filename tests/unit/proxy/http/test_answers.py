import json
from typing import Any

from engine.faults import EngineRefused
from engine.protocols.chat import CHAT
from proxy.errors import ApiError, Code
from proxy.exchange_state import ExchangeState
from proxy.http.answers import answer_error
from proxy.http.headers import EVENT_STREAM
from tests.unit.proxy.played_client import PlayedClient


async def told(error: ApiError | EngineRefused, *, begun: bool = False) -> tuple[PlayedClient, ExchangeState]:
    client, state = PlayedClient(), ExchangeState(CHAT, "I")
    downstream = client.downstream()
    if begun:
        downstream.head(200, EVENT_STREAM)
        downstream.write(b"data: 1\n\n")
    await answer_error(downstream, error, state)
    return client, state


async def test_before_the_answer_an_error_is_the_answer() -> None:
    client, state = await told(ApiError(Code.QUEUE_FULL, "Full.", retry_after_s=7))
    assert (client.status, client.json["error"]["code"]) == (429, "queue_full")
    assert client.answer_headers == {
        "content-type": "application/json",
        "retry-after": "7",
        "x-request-id": state.request_id,
        "content-length": str(len(client.answer)),
    }


async def test_an_engines_refusal_keeps_its_bytes_and_gets_our_id() -> None:
    client, state = await told(EngineRefused(422, b'{ "error" : 1 }'))
    assert (client.status, client.answer) == (422, b'{ "error" : 1 }')
    assert client.answer_headers["x-request-id"] == state.request_id


async def test_after_the_head_an_error_is_the_last_event() -> None:
    client, _ = await told(ApiError(Code.STREAM_TRUNCATED, "Broke\noff."), begun=True)
    assert (client.status, client.complete) == (200, True)
    error: dict[str, Any] = json.loads(client.events[-1])["error"]
    assert (error["code"], error["message"]) == ("stream_truncated", "Broke\noff.")
    assert [event == b"[DONE]" for event in client.events] == [False, False]
