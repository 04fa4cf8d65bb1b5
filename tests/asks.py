"""What tests ask of a gateway over the wire."""

from typing import Any

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Tell me about toll roads."}]


def chat(max_tokens: int, **fields: Any) -> dict[str, Any]:
    """Return a chat that goes on for as long as it may."""
    return {"model": "demo", "messages": MESSAGES, "max_tokens": max_tokens, "ignore_eos": True} | fields
