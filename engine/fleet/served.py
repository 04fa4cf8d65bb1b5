"""
Whether a replica serves the model by the name that it is asked by, and takes the key that it is shown.

Rules: asked at the first look and every `LOOKS` after it, and at each look while the answer is no. Only a clear no is
one: an engine without a list of models, or one that is too busy to tell it, is believed.

Source: vLLM entrypoints/openai/models: `GET /v1/models` lists every served name and adapter; `--api-key` keeps `/v1`.
"""

import asyncio
from typing import Any

import orjson

from engine.faults import UpstreamFault
from engine.fleet.replica import Replica
from engine.fleet.trouble import Trouble
from engine.wire.client import Upstream

LOOKS = 30
_ANSWER_S_MAX = 2.0
_BODY_BYTES_MAX = 1_048_576
_PATH = "/v1/models"


async def misnamed(replica: Replica, upstream: Upstream) -> Trouble | None:
    """Return why a replica that lives cannot be asked for its model; None where it can be, for all that is known."""
    if replica.named_looks:
        replica.named_looks -= 1
        return None
    try:
        request = upstream.request("GET", replica.url + _PATH, credentials=replica.credentials)
        async with asyncio.timeout(_ANSWER_S_MAX), request as response:
            trouble = _trouble(replica, response.status, await response.read(_BODY_BYTES_MAX))
    except (UpstreamFault, TimeoutError):
        return None
    replica.named_looks = 0 if trouble else LOOKS
    return trouble


def _trouble(replica: Replica, status: int, body: bytes) -> Trouble | None:
    if status in (401, 403):
        shown = "does not take the key in api_key_file" if replica.credentials.fields else "wants a key (api_key_file)"
        return Trouble(f"HTTP status {status}: it {shown}")
    names = _names(body) if status == 200 else None
    if names is None or replica.asked_for in names:
        return None
    return Trouble(f"it serves no model named {replica.asked_for!r}; upstream_model says by which name it is asked")


def _names(body: bytes) -> set[Any] | None:
    """Return the names in a list of models; None where it is no such list."""
    try:
        return {model["id"] for model in orjson.loads(body)["data"]}
    except (ValueError, KeyError, TypeError):
        return None
