"""
The parts of a message's content, each written anew from what it may hold.

Rules:
- A part is its type and what belongs to it, and all else is left out. vLLM looks for media by a part's fields and not
  by its type: one of type `text` with a `uuid` and an `image_url` is a picture to it, fetched from wherever the URL
  says and reserved by nobody.
- Types of other APIs that say the same go on as the type that vLLM renders: `input_text` as `text`.
- What is neither text nor plain media is refused: tensors (`image_embeds`, `prompt_embeds`), which nobody here can
  count, and a `tool_reference`, for which a template may write a whole tool.

Source: vllm renderers/chat_utils.py, `_parse_chat_message_content_mm_part`.
"""

from typing import Any

from engine.faults import MalformedRequest
from engine.protocols import media

_TEXTS = {
    "text": ("text", "text"),
    "input_text": ("text", "text"),
    "output_text": ("text", "text"),
    "refusal": ("refusal", "refusal"),
    "thinking": ("thinking", "thinking"),
}
"""Of each type that is text: the type that goes on, and the field that holds the text."""


def written(content: list[Any]) -> list[Any]:
    """Return the parts of a content as they may go on; raise `MalformedRequest`."""
    return [part if isinstance(part, str) else _written(part) for part in content]


def is_text(part: Any) -> bool:
    """Tell whether a part that was written here is text."""
    return isinstance(part, str) or part["type"] in _TEXTS


def _written(part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind in media.TYPES:
        return media.written(part)
    if not isinstance(kind, str) or kind not in _TEXTS:
        raise MalformedRequest("Only text and media parts are taken in the content of a message.", "messages")
    goes_on_as, field = _TEXTS[kind]
    text = part.get(field)
    if not isinstance(text, str):
        raise MalformedRequest(f"A part of type `{kind}` must hold a string `{field}`.", "messages")
    goes_on = {"type": goes_on_as, field: text}
    if kind == "thinking" and isinstance(part.get("closed"), bool):
        goes_on["closed"] = part["closed"]
    return goes_on
