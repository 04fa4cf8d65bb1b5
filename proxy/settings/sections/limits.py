"""The most that anything may take: `[limits]`."""

from dataclasses import fields
from functools import cached_property
from typing import Annotated

from pydantic import Field

from engine.protocols.bounds import Maxima
from proxy.edge.bodies import Parts
from proxy.settings.sections.base import Section
from proxy.settings.values import Seconds


class Bounds(Section):
    """The most that anything may take."""

    body_bytes_max: Annotated[int, Field(ge=1024, le=2**30)] = 10 * 2**20
    """Bytes of a request's body."""
    body_s_max: Seconds = 30.0
    """Seconds for the body to arrive."""
    body_stall_s: Seconds = 5.0
    """Seconds of an arriving body in each of which `body_bytes_per_s_min` has to come on average; else it is answered
    408."""
    body_bytes_per_s_min: Annotated[int, Field(ge=0, le=2**30)] = 4096
    """Bytes a second at which a body has to arrive, at the least; 0 bounds no pace, so that a body which stalls ends
    after `body_stall_s` only where nothing comes at all."""
    bodies_bytes_max: Annotated[int, Field(ge=2**20, le=2**40)] = 2**30
    """Bytes of all bodies that are being read or served, and of answers in one piece that their clients have not read
    yet; one more request is answered 503. Parsed, a body takes several times as much memory."""
    bodies_tenant_part: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Part that one tenant may hold of what the others leave of `bodies_bytes_max`; more is answered 429. One body
    alone is never too much."""
    bodies_user_part: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Part that one user may hold of what the others of the tenant leave of that; likewise."""
    json_depth_max: Annotated[int, Field(ge=4, le=200)] = 64
    """Nesting of a body's JSON, at most 200."""
    prompts_max: Annotated[int, Field(ge=1, le=65_536)] = 128
    """Prompts in one request for completions."""
    inputs_max: Annotated[int, Field(ge=1, le=65_536)] = 2_048
    """Inputs in one request for embeddings."""
    n_max: Annotated[int, Field(ge=1, le=4096)] = 16
    """Choices a prompt (`n`)."""
    logprobs_max: Annotated[int, Field(ge=0, le=1_000)] = 20
    """Alternatives told for each token (`top_logprobs`; in completions `logprobs`)."""
    stop_max: Annotated[int, Field(ge=1, le=1_024)] = 16
    """Strings in `stop`."""
    stop_bytes_max: Annotated[int, Field(ge=1, le=65_536)] = 1_024
    """Bytes of each string in `stop`."""
    tools_max: Annotated[int, Field(ge=1, le=4_096)] = 128
    """Entries of `tools`."""
    schema_bytes_max: Annotated[int, Field(ge=1_024, le=2**24)] = 256 * 1024
    """Bytes of JSON in each field that holds schemas: `tools`, `tool_choice`, `response_format`, `structured_outputs`,
    `chat_template_kwargs`."""
    entries_max: Annotated[int, Field(ge=1, le=100_000)] = 1_024
    """Entries in each of `logit_bias`, `stop_token_ids`, `bad_words`, `allowed_token_ids`."""
    connect_s_max: Seconds = 2.0
    """Seconds to connect to a replica."""
    ttft_s_max: Seconds = 120.0
    """Seconds from sending a request to a replica until its first token."""
    head_hold_s_max: Annotated[float, Field(ge=0, le=86_400)] = 15.0
    """Seconds after which a stream that waits for its first token sends its head and a comment, so that proxies and
    browsers, of which many give up after 60, do not; a later error is told in-band. 0 sends it at once. A client that
    wants real statuses sends `x-tollway-head: hold`."""
    idle_s_max: Seconds = 300.0
    """Seconds without a token from the replica, after the first one: a parser may hold back a whole tool call. A stream
    of an engine that is seen to generate (vLLM's `/metrics`, every 5 s) may be silent for longer."""
    gone_s_max: Seconds = 10.0
    """Seconds that an answer may stay silent once its replica is known to be gone: `/health` was refused, torn down or
    answered 5xx three times, a second apart, or ten times not at all, which takes half a minute. Where nothing reached
    the client another replica is asked. A replica that closes its socket first and then works off what it has needs as
    long here as its longest answer without `stream` takes."""
    write_s_max: Seconds = 60.0
    """Seconds for a client to take what it is sent."""
    exchange_s_max: Seconds = 3600.0
    """Seconds for a whole exchange."""
    attempts_max: Annotated[int, Field(ge=1, le=10)] = 2
    """Replicas tried before an error is answered; 1 never retries."""
    user_series_max: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    """Users with metric series of their own; the rest count as `other`, and with 0 all do."""
    drain_s_max: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """Seconds that a stopping gateway waits for running exchanges; 0 cuts them at once."""
    drain_notice_s: Annotated[float, Field(ge=0, le=3_600)] = 0.0
    """Seconds that a stopping gateway serves on while `/health/ready` says no, before it closes its socket: what a load
    balancer needs to notice. 0 closes it at once."""

    @cached_property
    def bodies_parts(self) -> Parts:
        """What one tenant and one user may hold of all bodies."""
        return Parts(self.bodies_tenant_part, self.bodies_user_part)

    @cached_property
    def maxima(self) -> Maxima:
        """What a body is held to."""
        return Maxima(**{field.name: getattr(self, field.name) for field in fields(Maxima)})
