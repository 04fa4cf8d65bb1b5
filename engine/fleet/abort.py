"""
Abort a request by its id, so that the replica ends it and tells what it cost.

Rules: an empty list of ids would abort everything in flight, so none is ever sent. The answer says nothing: an id that
the replica has not registered yet is passed over with a 200.

Source: vllm entrypoints/serve (`/abort_requests` with VLLM_SERVER_DEV_MODE=1) and entrypoints/scale_out
(`/inference/v1/abort_requests` with --enable-scale-out); vLLM 0.32 takes the ids of its answers, a completion's with
the number of its prompt.
"""

import orjson

from engine.fleet.replica import Replica
from engine.wire.client import JSON, Upstream

DEV_MODE_ABORT = "/abort_requests"
"""Where a replica of `engine.fleet.launch` takes it."""
_BODY_BYTES_MAX = 65_536


async def abort(replica: Replica, upstream: Upstream, ids: list[str]) -> bool:
    """Return whether the replica took the abort of `ids`; raise `engine.faults.UpstreamFault`."""
    assert ids, "no ids are all ids"
    body = orjson.dumps({"request_ids": ids})
    url, credentials = replica.url + replica.abort_path, replica.credentials
    async with upstream.request("POST", url, credentials=credentials, fields=JSON, body=body) as response:
        await response.read(_BODY_BYTES_MAX)
        return response.status == 200
