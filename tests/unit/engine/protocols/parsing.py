"""Bodies as clients send them, parsed and written anew."""

import json
from typing import Any

from engine.protocols.base import ApiProtocol, ParsedRequest
from engine.protocols.bounds import Maxima

MAXIMA = Maxima(
    json_depth_max=10,
    prompts_max=4,
    inputs_max=6,
    n_max=8,
    logprobs_max=20,
    stop_max=4,
    stop_bytes_max=64,
    tools_max=4,
    schema_bytes_max=4096,
    entries_max=8,
)
MINIMAL: dict[str, dict[str, Any]] = {
    "chat": {"model": "demo", "messages": [{"role": "user", "content": "hi"}]},
    "completions": {"model": "demo", "prompt": "hi"},
    "embeddings": {"model": "demo", "input": "hi"},
}


def request(protocol: ApiProtocol, **fields: Any) -> ParsedRequest:
    """Parse a minimal body with these fields besides or instead."""
    body = json.dumps(MINIMAL[protocol.name] | fields).encode()
    return protocol.parse(body, MAXIMA)


def rendered(
    protocol: ApiProtocol, *, max_completion: int = 100, extra_fields: frozenset[str] = frozenset(), **fields: Any
) -> dict[str, Any]:
    """Return the engine's body for a minimal request with these fields."""
    body = protocol.render(
        request(protocol, **fields),
        model="engine-name",
        max_completion=max_completion,
        cache_salt="salt",
        extra_fields=extra_fields,
    )
    return dict(json.loads(body))
