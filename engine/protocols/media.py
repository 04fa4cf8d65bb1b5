"""
Pictures, sounds and films in the messages of a conversation: where they may come from.

Rules:
- A part is its type and the one field of that name; what else it holds does not go on. One with a `uuid` is refused:
  it names an entry of vLLM's cache, which all tenants share, and whoever sends one counts on it.
- What is fetched is fetched by the engine, so its host must be on the operator's list, exactly: no suffixes, no
  addresses in disguise. What was checked is what goes on: the URL is written anew from its checked parts.
- No redirect can be ruled out here: vLLM's own `--allowed-media-domains` must be set too.
"""

import re
from collections.abc import Collection
from typing import Any

from engine.faults import MalformedRequest

BY_URL = frozenset({"image_url", "audio_url", "video_url"})
_INLINE = frozenset({"input_audio"})
_OF_RESPONSES = "input_image"
"""A picture as the Responses API writes it: the URL stands in the part itself."""
TYPES = BY_URL | _INLINE | {_OF_RESPONSES}

_DATA = re.compile(r"data:(?:image|audio|video)/[a-z0-9.+-]{1,64};base64,[A-Za-z0-9+/]*={0,2}", re.IGNORECASE)
_REMOTE = re.compile(r"(https?)://([^/?#@\\:%\[\]\s]+)(?::(\d{1,5}))?(/[^\s\\]*)?", re.IGNORECASE)
_PORTS = {"http": "80", "https": "443"}


def written(part: dict[str, Any]) -> dict[str, Any]:
    """Return a media part as it may go on, its URL unchecked; raise `MalformedRequest` where it is not plain."""
    kind = part["type"]
    value = part.get(kind)
    if kind == _OF_RESPONSES:
        kind, value = "image_url", {"url": part.get("image_url"), "detail": part.get("detail")}
    if not isinstance(value, dict) or part.get("uuid") is not None:
        raise MalformedRequest(f"A part of type `{kind}` must hold an object `{kind}`, and no `uuid`.", "messages")
    needed, other = ("url", "detail") if kind in BY_URL else ("data", "format")
    held = {name: value[name] for name in (needed, other) if value.get(name) is not None}
    if needed not in held or not all(isinstance(each, str) for each in held.values()):
        raise MalformedRequest(f"`{kind}` must hold `{needed}`, may hold `{other}`, both strings.", "messages")
    return {"type": kind, kind: held}


def checked(url: str, domains: Collection[str]) -> str:
    """Return a media URL as it may go on: inline data, or a listed host's; raise `MalformedRequest` for any other."""
    if _DATA.fullmatch(url):
        return url
    found = _REMOTE.fullmatch(url)
    host = _host(found[2]) if found else None
    if found is None or host is None:
        raise MalformedRequest("Media must be a base64 `data:` URL or a plain `http(s)://host/path`.", "messages")
    scheme = found[1].lower()
    if host not in domains or found[3] not in (None, _PORTS[scheme]):
        raise MalformedRequest("Media are not fetched from this host; send them as base64 `data:` URLs.", "messages")
    return f"{scheme}://{host}{found[4] or '/'}"


def _host(written: str) -> str | None:
    """Return a host as it is looked up: in ASCII, in lower case, without the root's dot."""
    try:
        return written.encode("idna").decode("ascii").lower().removesuffix(".") or None
    except UnicodeError:
        return None
