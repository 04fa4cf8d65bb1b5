"""
What a protocol is: one path that is forwarded, and everything that depends on how it is spoken there.

A new protocol is one file with an object of this shape, and one line in `engine/protocols/registry.py`; nothing else
in the gateway asks which protocol it is, but for a header of its own with the client's token
(`proxy/stages/authenticate.py`, `proxy/edge/head.py`). Its tests: a body in `tests/unit/engine/protocols/parsing.py`
and in `tests/property/test_hostile_bytes.py`, and its path in the simulated engine (`engine/sim/app.py`), held to
what vLLM was recorded to say (`tests/record_vllm.py`). What several share stands in files of its own: `fields` and
`bounds` (a body read, and written anew), `prompt` with `parts`, `media` and `normal` (what becomes prompt), `frames`,
`usage`, `stream` and `answer` (what engines send), `openai` (what OpenAI's endpoints have in common).

Decision: an object with methods, and machines that it makes for one answer.
Because a protocol differs in all of these at once, and who relays needs none of the differences.
Instead of a table of fields and flags: each difference was a branch in another file.

How others fit:

- **Named events.** A frame keeps all its lines, `event:` too, and goes on as it came. `FrameKind.DONE` is the frame
  that ends the stream (`[DONE]`, `message_stop`, `response.completed`): it is held back until the exchange is settled.
  `FrameKind.ERROR` is the one that tells a failure.
- **Usage only at the end.** `StreamMachine.usage` is what a cut would be billed by. Where the engine tells it last, the
  machine counts until then: a token for each delta with text. That it is a count goes beside it, for the record's
  source; `complete` is what it always is, that the engine said what all of it cost.
- **Another envelope of errors.** `error_body` and `error_frame` write the row of the gateway's table as their clients
  read it, `FailureRow.status` and `code` telling all that an envelope's own words are chosen by.
- **Answers without text** (counts of tokens, scores): `generates` is false, `stream` returns None.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

from engine.protocols.bounds import Maxima
from engine.protocols.prompt import Prompt
from engine.protocols.usage import Usage


@dataclass(slots=True, kw_only=True)
class ParsedRequest:
    """What a client asks of a model, as far as the gateway needs to know. Nobody changes it."""

    protocol: "ApiProtocol"
    model: str
    prompt: Prompt
    fields: dict[str, Any]
    """The body as parsed, unknown fields and all."""
    stream: bool = False
    include_usage: bool = False
    """Whether the client asked for the frame with the stream's usage."""
    continuous_usage: bool = False
    """Whether it asked for usage in every frame."""
    n: int = 1
    """Choices per prompt."""
    max_completion: int | None = None
    """Tokens each choice asks for at most; None where the client did not say."""
    limit_field: str = ""
    """The field that said so."""
    min_completion: int = 0
    """Tokens each choice asks for at least."""
    scores: bool = False
    """Whether its prompt is only to be scored and shown: no token of an answer has to be counted."""
    choices: int = field(init=False)
    """How many completions it asks for over all prompts."""

    def __post_init__(self) -> None:
        """Count them once: who asks most does so six times a request."""
        self.choices = self.prompt.count * self.n

    @property
    def prompts(self) -> int:
        """How many prompts it holds."""
        return self.prompt.count


class FrameKind(Enum):
    """What a frame is."""

    COMMENT = auto()
    CONTENT = auto()
    USAGE = auto()
    """The engine's own sum, in a frame without choices."""
    ABORT = auto()
    """A choice ended because the engine gave it up, or what came after that."""
    ERROR = auto()
    DONE = auto()
    """The stream's last frame."""


class Frame(NamedTuple):
    """One frame, or several of content, and what of it the client gets (nothing where it did not ask for it)."""

    kind: FrameKind
    forward: bytes


class EngineFailure(NamedTuple):
    """What an engine says in a frame instead of a status, because its stream had a 200 by then."""

    status: int | None
    """The status that it stands for; None where it does not say."""
    body: bytes
    """What the answer of that status would have been."""


class StreamMachine(Protocol):
    """One stream on its way: bytes in, frames out. It does no I/O and knows no clock."""

    fingerprint: bytes
    """The engine's name for itself: as it was known before the stream, then as the stream told it."""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes; raise `engine.faults.UpstreamBroken` for what cannot be read."""

    @property
    def usage(self) -> Usage | None:
        """The last usage received; None before any came."""

    @property
    def proven(self) -> Usage | None:
        """What was computed of a stream that was aborted, even if it does not say so; None where that is not known."""

    @property
    def complete(self) -> bool:
        """Whether the engine finished everything that was asked and said what it cost."""

    @property
    def prompts_begun(self) -> int:
        """Of how many prompts a token has come."""

    @property
    def uncounted(self) -> bool:
        """Whether the engine finished, and did not say what it cost."""

    @property
    def failure(self) -> EngineFailure | None:
        """What the engine's error frame says, once one was received."""


class Answer(NamedTuple):
    """
    What a whole answer says.

    `usage` of one that was aborted is what was computed, which is less than it says; of one that tells none, or nothing
    beside text, it is nothing at all.
    """

    usage: Usage
    aborted: bool


class FailureRow(Protocol):
    """A failure as the gateway tells it: a row of its one table (`proxy.errors`), and what happened."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def type(self) -> str:
        """OpenAI's kind of error."""

    @property
    def code(self) -> str:
        """The table's name for it."""

    @property
    def message(self) -> str:
        """What happened, for a person."""

    @property
    def param(self) -> str | None:
        """The field of the request that is to blame, if one is."""

    @property
    def retry_after_s(self) -> int | None:
        """When it is worth trying again; None where it is not, or is not known."""


class ApiProtocol(Protocol):
    """One protocol. It holds no state: one object serves all requests."""

    name: str
    """What the config, records and metrics call it."""
    path: str
    """Where clients ask, and where engines are asked."""
    prompt_field: str
    """The field that holds the prompt."""
    generates: bool
    """Whether it generates tokens."""
    default_completion: int | None
    """Tokens that a choice gets where the client names no maximum; None leaves that to the model's config."""
    fields: frozenset[str]
    """What of a body may pass."""
    withheld: frozenset[str]
    """What vLLM would take besides, and is left out."""
    id_prefix: str
    """What an engine that takes a request's id from `x-request-id` puts before it in its answer's `id`."""

    def parse(self, body: bytes, maxima: Maxima) -> ParsedRequest:
        """
        Return what `body` asks for.

        Raises: MalformedRequest.
        Bounds: what `engine.protocols.bounds` holds a body to, and `maxima`.
        """

    def check_answer(
        self, request: ParsedRequest, *, max_completion: int, context_tokens: int, extra_fields: Collection[str]
    ) -> int:
        """
        Return how large an answer in one piece can get, in bytes; 0 for a stream.

        Raises: MalformedRequest, where it would be too large to read.
        """

    def render(
        self, request: ParsedRequest, *, model: str, max_completion: int, cache_salt: str, extra_fields: Collection[str]
    ) -> bytes:
        """
        Return the body for the engine, written anew from the fields that may pass.

        Shapes: `model` is the engine's name; `extra_fields` are allowed beyond the protocol's own.
        """

    def abort_ids(self, request_id: str, prompts: int) -> list[str]:
        """Return by which ids an engine aborts a request sent with `x-request-id: request_id`; none where by none."""

    def answers(self, request_id: str, begin: bytes) -> bool | None:
        """
        Tell whether an answer, or its first frame with content, which begins so, has the request's id.

        None where it does not begin with an id: then there is nothing to compare.
        """

    def stream(self, request: ParsedRequest) -> StreamMachine | None:
        """Return the machine that reads the answer, or None where it comes in one piece."""

    def read_answer(self, request: ParsedRequest, parts: Sequence[bytes]) -> Answer:
        """
        Return what an answer in one piece says, as it came.

        Raises: UpstreamBroken, for what no engine sends; Unreadable, where the work behind it is done all the same.
        """

    def error_body(self, error: FailureRow) -> bytes:
        """Return the body of an answer that is an error."""

    def error_frame(self, error: FailureRow, *, early: bool) -> bytes:
        """
        Return the frame that ends a stream which failed after it had begun.

        An `early` one comes before any of the answer: it tells what would have been the status, and when to come back.
        """

    def refusal_frame(self, status: int, body: bytes) -> bytes:
        """Return the frame for an engine's own refusal, where the head of the stream is out already."""
