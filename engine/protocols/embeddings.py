"""
`/v1/embeddings` as vLLM takes it.

Source: vllm entrypoints/pooling/embed/protocol.py; the transcripts in tests/data.
"""

from collections.abc import Collection

import orjson

from engine.protocols.base import ParsedRequest
from engine.protocols.bounds import Maxima
from engine.protocols.fields import passing, read_fields
from engine.protocols.openai import OpenAiProtocol
from engine.protocols.prompt import of_texts


class Embeddings(OpenAiProtocol):
    """One or more texts, or lists of token ids, and a vector for each: no token is generated."""

    __slots__ = ()
    name = "embeddings"
    path = "/v1/embeddings"
    prompt_field = "input"
    generates = False
    id_prefix = "embd-"
    fields = frozenset({"model", "input", "encoding_format", "dimensions"})

    def parse(self, body: bytes, maxima: Maxima) -> ParsedRequest:
        """Return what `body` asks for."""
        fields, model = read_fields(body, maxima)
        prompt = of_texts("input", fields.get("input"), None, maxima.inputs_max)
        return ParsedRequest(protocol=self, model=model, prompt=prompt, fields=fields)

    def render(
        self, request: ParsedRequest, *, model: str, max_completion: int, cache_salt: str, extra_fields: Collection[str]
    ) -> tuple[bytes, int]:
        """Return the body for the engine, and how many fields of the client's were left out."""
        body, removed = passing(request.fields, self.fields, extra_fields)
        body["model"] = model
        body["cache_salt"] = cache_salt
        body.pop("stream_options", None)
        return orjson.dumps(body), removed

    def abort_ids(self, request_id: str, prompts: int) -> list[str]:
        """Return none: it is over before anybody could abort it."""
        return []

    def stream(self, request: ParsedRequest) -> None:
        """Return None: the answer comes in one piece."""


EMBEDDINGS = Embeddings()
