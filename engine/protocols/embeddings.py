"""
`/v1/embeddings` as vLLM takes it.

Source: vllm entrypoints/pooling/embed/protocol.py; the transcripts in tests/data.
"""

from collections.abc import Collection

import orjson

from engine.faults import MalformedRequest
from engine.protocols.answer_size import check_embeddings
from engine.protocols.base import ParsedRequest
from engine.protocols.bounds import Maxima
from engine.protocols.fields import passing, read_fields
from engine.protocols.openai import OpenAiProtocol
from engine.protocols.prompt import of_texts

_ENCODINGS = ("float", "base64")
"""What stands in JSON; vLLM's other two are bytes, which tell no usage here."""


class Embeddings(OpenAiProtocol):
    """One or more texts, or lists of token ids, and a vector for each: no token is generated."""

    __slots__ = ()
    name = "embeddings"
    path = "/v1/embeddings"
    prompt_field = "input"
    generates = False
    id_prefix = "embd-"
    fields = frozenset(
        "model input encoding_format dimensions add_special_tokens embed_dtype endianness use_activation".split()
    )
    # As where tokens are generated; and padding makes of any prompt one that fills the context.
    withheld = frozenset(
        "priority cache_salt request_id truncate_prompt_tokens truncation_side user mm_processor_kwargs padding".split()
    )

    def parse(self, body: bytes, maxima: Maxima) -> ParsedRequest:
        """Return what `body` asks for."""
        fields, model = read_fields(body, maxima)
        encoding = fields.get("encoding_format")
        if encoding is not None and encoding not in _ENCODINGS:
            raise MalformedRequest(f"`encoding_format` must be {' or '.join(_ENCODINGS)}.", "encoding_format")
        prompt = of_texts("input", fields.get("input"), None, maxima.inputs_max)
        return ParsedRequest(protocol=self, model=model, prompt=prompt, fields=fields)

    def check_answer(
        self, request: ParsedRequest, *, max_completion: int, context_tokens: int, extra_fields: Collection[str]
    ) -> int:
        """Return how large the answer can get."""
        return check_embeddings(request)

    def render(
        self, request: ParsedRequest, *, model: str, max_completion: int, cache_salt: str, extra_fields: Collection[str]
    ) -> bytes:
        """Return the body for the engine."""
        body = passing(request.fields, self.fields, extra_fields)
        body["model"] = model
        body["cache_salt"] = cache_salt
        body.pop("stream_options", None)
        return orjson.dumps(body)

    def abort_ids(self, request_id: str, prompts: int) -> list[str]:
        """Return none: it is over before anybody could abort it."""
        return []

    def stream(self, request: ParsedRequest) -> None:
        """Return None: the answer comes in one piece."""


EMBEDDINGS = Embeddings()
