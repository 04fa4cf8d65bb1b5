"""
The answer, from a replica to the client, byte for byte less what only the gateway asked for.

Rules:
- The head goes out with the first whole frame, because vLLM answers 200 and tells the truth in the first frame. Until
  then a failure is an exception, and another replica may be tried; from then on it is told in-band.
- The end (`[DONE]`, or a whole JSON body) is held back and returned: it goes out once the exchange is settled, so that
  a client that has its answer has been billed for it.
- Every wait is bounded: a stream's first token by `ttft_s_max`, each later one and each write by `idle_s_max`, all of
  it by `exchange_s_max`. Comments are no tokens: an engine hangs while its server keeps the connection alive.
- A client that hangs up before anything is known of what it used is not waited for, but its replica is: where that
  aborts by id, it is told to, and what it then says is read for up to `READ_ON_S_MAX`. All else ends at once.
"""

import asyncio
import time
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any

import orjson

from engine.faults import Declined, EngineRefused, UpstreamBroken, UpstreamFault, UpstreamTimeout
from engine.fleet.abort import abort, ids_of
from engine.fleet.replica import Replica
from engine.protocols.answer import read_answer
from engine.protocols.openai import render
from engine.protocols.stream import CompletionStream, Frame, FrameKind
from engine.wire.client import Upstream, UpstreamResponse
from engine.wire.connection import Wait
from proxy.billing.record import OK, Source
from proxy.call import Call
from proxy.errors import ApiError, Code
from proxy.http.downstream import ClientGone, Downstream
from proxy.http.headers import EVENT_STREAM, JSON, exchange_headers
from proxy.observe.metrics import Metrics
from proxy.settings.sections import Bounds
from proxy.stages.deadlines import Deadlines
from proxy.tally import Tally

_JSON_BYTES_MAX = 64 * 1024 * 1024
READ_ON_S_MAX = 0.25
_ABORT_AGAIN_S = 0.1
"""An abort that overtakes its own request is passed over by the replica."""
_END_S_MAX = 1.0
"""How long the connection's end is waited for after the last frame, so that it can be used again."""
_FIELDS = JSON + b"accept-encoding: identity\r\n"
_PASSED_THROUGH = frozenset({400, 413, 422})
"""The engine's own refusals of a request, which say more about it than the gateway could."""


class Relay:
    """The stage that talks to a replica."""

    def __init__(self, upstream: Upstream, bounds: Bounds, cache_secret: bytes, metrics: Metrics) -> None:
        self._upstream = upstream
        self._bounds = bounds
        self._cache_secret = cache_secret
        self._metrics = metrics

    async def __call__(self, call: Call, replica: Replica, downstream: Downstream, tally: Tally) -> bytes:
        """
        Relay one answer and return its end, which is still to be sent.

        Raises `UpstreamFault` or `EngineRefused` while nothing went out, `ApiError(stream_truncated)` afterwards, and
        `ClientGone` at any time.
        """
        tally.wasted()
        reached_before = tally.reached
        tally.watch.dispatched = time.perf_counter()
        try:
            with downstream.watched(partial(self._part, call, replica, tally)):
                end = await self._attempt(call, replica, downstream, tally)
        except (UpstreamFault, EngineRefused) as fault:
            if downstream.started and not downstream.left:
                raise ApiError(Code.STREAM_TRUNCATED, "The replica failed before the answer was complete.") from fault
            if isinstance(fault, Declined | EngineRefused) and not (downstream.started or tally.known):
                tally.reached = reached_before
            if downstream.left:
                raise ClientGone from fault
            raise
        finally:
            tally.watch.upstream_ended = time.perf_counter()
        if downstream.left:
            raise ClientGone
        return end

    async def _attempt(self, call: Call, replica: Replica, downstream: Downstream, tally: Tally) -> bytes:
        # An answer that is not streamed arrives all at once, however long it is: it has no first token to wait for.
        first_s_max = self._bounds.ttft_s_max if call.request.stream else self._bounds.exchange_s_max
        deadlines = Deadlines(downstream.loop, first_s=first_s_max, whole_s=self._bounds.exchange_s_max)
        passing: _Passing | None = None
        try:
            with deadlines:
                async with self._asking(call, replica, tally) as response:
                    if response.status != 200:
                        raise _refusal(response.status, await response.read(_JSON_BYTES_MAX))
                    if not call.request.stream:
                        body = _whole(await response.read(_JSON_BYTES_MAX), call, tally)
                        replica.spoke()
                        downstream.head(200, JSON + exchange_headers(tally))
                        return body
                    downstream.head(200, EVENT_STREAM + exchange_headers(tally))
                    passing = _Passing(
                        deadlines, downstream, replica=replica, tally=tally, idle_s_max=self._bounds.idle_s_max
                    )
                    await response.pour(passing.take)
        except (TimeoutError, UpstreamFault) as fault:
            # What happens behind a stream's end spoils nothing.
            if passing is None or passing.end is None:
                if isinstance(fault, UpstreamFault):
                    raise
                if deadlines.blames_client:
                    raise ClientGone from None
                replica.missed()
                raise UpstreamTimeout("the replica was silent for too long") from None
        if passing.end is None:
            raise UpstreamBroken("the stream ended before it was complete")
        tally.source, tally.outcome = Source.ENGINE, OK
        return passing.end

    async def _part(self, call: Call, replica: Replica, tally: Tally) -> None:
        """Let the relay read on for what an unobserved request used, where its replica can be made to tell."""
        request = call.request
        if tally.known or not (tally.reached and replica.abort_path and request.endpoint.completes):
            return
        ids = ids_of(request.endpoint, tally.request_id, request.prompts)
        with suppress(TimeoutError, UpstreamFault):
            async with asyncio.timeout(READ_ON_S_MAX):
                for pause_s in (_ABORT_AGAIN_S, READ_ON_S_MAX):
                    if not await abort(replica, self._upstream, ids):
                        return
                    await asyncio.sleep(pause_s)

    def _asking(self, call: Call, replica: Replica, tally: Tally) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Return the block in which the replica is asked and answers."""
        return self._upstream.request(
            "POST",
            replica.url + call.request.endpoint.path,
            fields=b"%bx-request-id: %b\r\n" % (_FIELDS, tally.request_id.encode()),
            body=self._body(call, tally),
            sent=tally.was_sent,
        )

    def _body(self, call: Call, tally: Tally) -> bytes:
        body, removed = render(
            call.request,
            model=call.model.name,
            max_completion=tally.max_completion,
            cache_salt=call.cache_salt(self._cache_secret),
            extra_fields=call.model.extra_fields,
        )
        if removed:
            self._metrics.fields_stripped(call.request.endpoint.name, removed)
        return body


class _Passing:
    """
    A stream on its way from a replica to the client, taken part by part as it arrives.

    Units: `idle_s_max` in seconds, for each step but the first.
    """

    def __init__(
        self, deadlines: Deadlines, downstream: Downstream, *, replica: Replica, tally: Tally, idle_s_max: float
    ) -> None:
        assert tally.call is not None
        request = tally.call.request
        self._stream = CompletionStream(
            n=request.n, include_usage=request.include_usage, continuous_usage=request.continuous_usage
        )
        self._deadlines = deadlines
        self._downstream = downstream
        self._replica = replica
        self._tally = tally
        self._idle_s_max = idle_s_max
        self.end: bytes | None = None
        """The frame that ends a whole stream, once it has come."""

    def take(self, data: bytes) -> Wait | None:
        """Pass on what came; raise what an error frame stands for, and `UpstreamBroken` for half a stream."""
        if self.end is not None:
            return None
        stream, downstream = self._stream, self._downstream
        frames = stream.feed(data)
        usage = stream.proven if downstream.left else stream.usage
        if usage is not None:
            self._tally.observed(usage)
        forward, last, progress = _sift(frames, comments=downstream.started)
        if forward and not downstream.left:
            watch = self._tally.watch
            watch.first_token = watch.first_token or time.perf_counter()
            if not downstream.write(forward):
                self._deadlines.with_client(self._idle_s_max)
                return partial(self._caught_up, last, progress=progress)
        self._step(last, progress=progress)
        return None

    async def _caught_up(self, last: Frame | None, *, progress: bool) -> None:
        await self._downstream.drained()
        self._step(last, progress=progress)

    def _step(self, last: Frame | None, *, progress: bool) -> None:
        """Go on to the next step: the replica's, or the end."""
        if last is not None:
            self._ended(last)
        elif progress:
            self._replica.spoke()
            self._deadlines.with_replica(self._idle_s_max)
        else:
            self._deadlines.back_to_replica()

    def _ended(self, last: Frame) -> None:
        if self._stream.error is not None:
            raise _refusal_in_stream(self._stream.error)
        if not self._stream.complete:
            raise UpstreamBroken("the stream ended before it was complete")
        self.end = last.forward
        self._deadlines.with_replica(_END_S_MAX)


def _sift(frames: list[Frame], *, comments: bool) -> tuple[bytes, Frame | None, bool]:
    """
    Return the bytes that go on now, the frame that ends the stream if there is one, and whether there is progress.

    There is where the engine is behind a frame; behind comments and errors there is only its server.
    """
    forward, progress = b"", False
    for frame in frames:
        kind = frame.kind
        if kind is FrameKind.CONTENT or kind is FrameKind.USAGE:
            forward += frame.forward
            progress = True
        elif kind is FrameKind.ABORT:
            progress = True
        elif kind is not FrameKind.COMMENT:
            return forward, frame, progress
        elif comments:
            forward += frame.forward
    return forward, None, progress


def _whole(body: bytes, call: Call, tally: Tally) -> bytes:
    answer = read_answer(body, prompts=call.request.prompts)
    tally.observed(answer.usage)
    if answer.aborted:
        raise UpstreamBroken("the engine gave the request up")
    tally.source, tally.outcome = Source.ENGINE, OK
    return body


def _refusal(status: int, body: bytes) -> Exception:
    if status in _PASSED_THROUGH and _is_json(body):
        return EngineRefused(status, body)
    return Declined(f"status {status}")


def _refusal_in_stream(error: dict[str, Any]) -> Exception:
    """Return what an error frame stands for: vLLM answers 200 to a stream before it looks at its parameters."""
    code = error.get("code")
    if isinstance(code, int) and code in _PASSED_THROUGH:
        return EngineRefused(code, orjson.dumps({"error": error}))
    return Declined(f"error frame with code {code}")


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
