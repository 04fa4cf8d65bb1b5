"""What vLLM 0.32.0 was recorded to answer; a test names the transcript that it plays."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data" / "vllm-0.32.0"


@dataclass(frozen=True, slots=True)
class Transcript:
    """One request to a real replica and its whole answer."""

    name: str
    path: str
    asked: dict[str, Any]
    """The request's body, or nothing where it was no JSON object."""
    status: int
    content_type: str
    chunks: tuple[bytes, ...]
    """The body as it came: one HTTP chunk each."""

    @property
    def body(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.chunks)

    @property
    def continuous(self) -> bool:
        """Tell whether the request asked for usage in every frame, as the gateway always does."""
        options = self.asked.get("stream_options") or {}
        return bool(options.get("include_usage") and options.get("continuous_usage_stats"))

    @property
    def n(self) -> int:
        """Return the choices asked for each prompt."""
        return int(self.asked.get("n") or 1)


def transcript(name: str) -> Transcript:
    """Return the transcript of this name."""
    recorded = json.loads((FOLDER / f"{name}.json").read_text())
    request, response = recorded["request"], recorded["response"]
    return Transcript(
        name=name,
        path=request["path"],
        asked=request["body"] if isinstance(request["body"], dict) else {},
        status=response["status"],
        content_type=dict(response["headers"]).get("content-type", ""),
        chunks=tuple(chunk.encode() for chunk in response["chunks"]),
    )


ALL = tuple(transcript(path.stem) for path in sorted(FOLDER.glob("*.json")))
STREAMS = tuple(one for one in ALL if one.content_type.startswith("text/event-stream"))
