"""
The answer, from a replica to the client, byte for byte less what only the gateway asked for.

Rules:
- The head goes out with the first whole frame, because vLLM answers 200 and tells the truth in the first frame. Until
  then a failure is an exception, and another replica may be tried, also where the head went out by itself meanwhile
  (`proxy/http/early_head.py`); from then on it is told in-band.
- The end (`[DONE]`, or a whole JSON body) is held back and returned: it goes out once the exchange is settled, so that
  a client that has its answer has been billed for it.
- Every wait is bounded: a stream's first token by `ttft_s_max`, each later one by `idle_s_max`, each write by
  `write_s_max`, all of it by `exchange_s_max`. Comments are no tokens: an engine hangs while its server keeps the
  connection alive. A replica whose engine generates is not idle, however silent this stream is; one that is known to be
  gone has `gone_s_max` for whatever step it is at.
- A client that hangs up before anything is known of what it used is not waited for, but its replica is: where that
  aborts by id, it is told to, and what it then says is read for up to `READ_ON_S_MAX`. So is what a replica has said
  already to a client that did not read it. All else ends at once.
"""

import asyncio
import time
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial

import orjson

from engine.faults import (
    Declined,
    EngineRefused,
    ForeignAnswer,
    ReplicaGone,
    ResponseTooLarge,
    UpstreamBroken,
    UpstreamFault,
    UpstreamTimeout,
)
from engine.fleet.abort import abort
from engine.fleet.replica import Lease
from engine.protocols.answer_size import ANSWER_BYTES_MAX
from engine.protocols.base import Frame, FrameKind, StreamMachine
from engine.protocols.naming import named_answer, named_frames
from engine.wire.client import Upstream, UpstreamResponse, read_parts
from engine.wire.connection import Wait
from proxy.attempt import Attempt
from proxy.errors import ApiError, ClientGone, Code
from proxy.http.downstream import Downstream
from proxy.http.headers import EVENT_STREAM, JSON
from proxy.stages.deadlines import Deadlines

_PARSED_BYTES_MAX = 64 * 1024
"""Of an engine's refusal; a larger one repeats what it refuses."""
_ID_BYTES_MAX = 128
"""Within which an answer says whose it is."""
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

    def __init__(self, upstream: Upstream, cache_secret: bytes) -> None:
        self._upstream = upstream
        self._cache_secret = cache_secret

    async def __call__(self, attempt: Attempt, downstream: Downstream, request_id: str, headers: bytes) -> None:
        """
        Relay one answer but for its end, which is kept on the attempt; `headers` are lines of the answer's head.

        Raises `UpstreamFault` or `EngineRefused` while nothing went out, `ApiError(stream_truncated)` afterwards, and
        `ClientGone` at any time.
        """
        attempt.dispatched = time.perf_counter()
        try:
            with downstream.watched(partial(self._part, attempt, request_id)):
                await self._attempt(attempt, downstream, request_id, headers)
        except (UpstreamFault, EngineRefused) as fault:
            attempt.fault = fault
            if downstream.delivered and not downstream.left:
                message = f"The replica failed before the answer was complete ({fault.reason})."
                raise ApiError(Code.STREAM_TRUNCATED, message) from fault
            if downstream.left:
                raise ClientGone from fault
            raise
        finally:
            attempt.ended = time.perf_counter()
        if downstream.left:
            raise ClientGone

    async def _attempt(self, attempt: Attempt, downstream: Downstream, request_id: str, headers: bytes) -> None:
        call = attempt.admitted.call
        attempt.stream = stream = call.request.protocol.stream(call.request)
        bounds = call.bounds
        # From its reserve on, by which everybody else knows when it is over, whatever it waited for or tried before.
        whole_s = bounds.exchange_s_max - (attempt.dispatched - attempt.admitted.at)
        # An answer that is not streamed arrives all at once, however long it is: it has no first token to wait for.
        first_s_max = bounds.exchange_s_max if stream is None else bounds.ttft_s_max
        deadlines = Deadlines(downstream.loop, first_s=first_s_max, whole_s=whole_s, gone_s=bounds.gone_s_max)
        attempt.lease.hurry = deadlines.hurry
        try:
            with deadlines:
                async with self._asking(attempt, request_id) as response:
                    if response.status != 200:
                        raise await _refused(response)
                    if stream is None:
                        parts = await read_parts(response, ANSWER_BYTES_MAX, downstream.share.has_room)
                        downstream.share.keep(sum(map(len, parts)))
                        attempt.end = _whole(parts, attempt, request_id)
                        attempt.lease.spoke()
                        downstream.head(200, JSON + headers)
                        return
                    downstream.head(200, EVENT_STREAM + headers)
                    passing = _Passing(stream, attempt, deadlines, downstream)
                    passing.unnamed = request_id
                    deadlines.spare = passing.spared_s
                    await response.pour(passing.take)
        except (TimeoutError, UpstreamFault) as fault:
            # What happens behind a stream's end spoils nothing.
            if attempt.end is None:
                if isinstance(fault, UpstreamFault):
                    raise
                raise _silence(deadlines, attempt.lease) from None
        if attempt.end is None:
            raise UpstreamBroken("the stream ended before it was complete")

    async def _part(self, attempt: Attempt, request_id: str) -> None:
        """
        Let the relay read on for what a request used of which more may be known than is.

        That is one of which nothing is known, where its replica can be made to tell; and one whose client did not read,
        and so was billed for what fitted between the two while its replica went on.
        """
        request, replica = attempt.admitted.call.request, attempt.replica
        if not attempt.reached or (attempt.known and not attempt.held_back):
            return
        ids = request.protocol.abort_ids(request_id, request.prompts) if replica.abort_path else []
        with suppress(TimeoutError, UpstreamFault):
            async with asyncio.timeout(READ_ON_S_MAX):
                for pause_s in (_ABORT_AGAIN_S, READ_ON_S_MAX):
                    if not (ids and await abort(replica, self._upstream, ids)) and not attempt.held_back:
                        return
                    await asyncio.sleep(pause_s)

    def _asking(self, attempt: Attempt, request_id: str) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Return the block in which the replica is asked and answers."""
        return self._upstream.request(
            "POST",
            attempt.replica.url + attempt.admitted.call.request.protocol.path,
            credentials=attempt.replica.credentials,
            fields=b"%bx-request-id: %b\r\n" % (_FIELDS, request_id.encode()),
            body=self._body(attempt),
            sent=attempt.was_sent,
        )

    def _body(self, attempt: Attempt) -> bytes:
        admitted = attempt.admitted
        call = admitted.call
        return call.request.protocol.render(
            call.request,
            model=attempt.replica.serves or call.model.name,
            max_completion=admitted.max_completion,
            cache_salt=call.cache_salt(self._cache_secret),
            extra_fields=call.model.extra_fields,
        )


class _Passing:
    """A stream on its way from a replica to the client, taken part by part as it arrives."""

    def __init__(self, stream: StreamMachine, attempt: Attempt, deadlines: Deadlines, downstream: Downstream) -> None:
        self._stream = stream
        stream.fingerprint = attempt.replica.fingerprint
        self._attempt = attempt
        self._deadlines = deadlines
        self._downstream = downstream
        self._bounds = attempt.admitted.call.bounds
        self._shown_as = attempt.admitted.call.model.name if attempt.replica.serves else None
        """The model's name, where the replica knows another."""
        self.unnamed = ""
        """The request's id, until it is known whose the answer is."""

    def take(self, data: bytes) -> Wait | None:
        """Pass on what came; raise what an error frame stands for, and `UpstreamBroken` for half a stream."""
        attempt = self._attempt
        if attempt.end is not None:
            return None
        stream, downstream = self._stream, self._downstream
        fault = None
        try:
            frames = stream.feed(data)
        except UpstreamFault as unread:
            frames, fault = [], unread
        if self.unnamed:
            self._identify(frames)
        # Also of what cannot be read on: what it said before is known.
        usage = stream.proven if downstream.left else stream.usage
        if usage is not None:
            attempt.observed(usage)
        if fault is not None:
            raise fault
        forward, last, progress = _sift(frames, comments=downstream.started)
        if self._shown_as is not None:
            forward = named_frames(forward, self._shown_as)
        if forward and not downstream.left and not self._pass_on(forward, progress=progress):
            self._attempt.held_back = True
            self._deadlines.with_client(self._bounds.write_s_max + 2 * READ_ON_S_MAX)
            return partial(self._caught_up, last, progress=progress)
        self._step(last, progress=progress)
        return None

    def _identify(self, frames: list[Frame]) -> None:
        """Look at the first frame with content for whose it is."""
        for frame in frames:
            if frame.kind is FrameKind.CONTENT:
                _identify(self._attempt, self.unnamed, frame.forward)
                self.unnamed = ""
                return

    def spared_s(self) -> float:
        """Return how much longer than `idle_s_max` its silence may last: the engine that generates is alive."""
        attempt = self._attempt
        if not attempt.first_token or attempt.end is not None or attempt.lease.bereaved:
            return 0.0
        return attempt.replica.generating_at + self._bounds.idle_s_max - self._downstream.loop.time()

    def _pass_on(self, forward: bytes, *, progress: bool) -> bool:
        """Write to the client; return whether it keeps up."""
        if not progress:
            return self._downstream.comment(forward)
        attempt = self._attempt
        attempt.first_token = attempt.first_token or time.perf_counter()
        return self._downstream.write(forward)

    async def _caught_up(self, last: Frame | None, *, progress: bool) -> None:
        downstream = self._downstream
        try:
            async with asyncio.timeout(self._bounds.write_s_max):
                await downstream.drained()
        except TimeoutError:
            downstream.give_up()
            await downstream.drained()
        self._attempt.held_back = downstream.gone
        self._step(last, progress=progress)

    def _step(self, last: Frame | None, *, progress: bool) -> None:
        """Go on to the next step: the replica's, or the end."""
        if last is not None:
            self._ended(last)
        elif progress:
            self._attempt.lease.spoke()
            self._deadlines.with_replica(self._bounds.idle_s_max)
        else:
            self._deadlines.back_to_replica()

    def _ended(self, last: Frame) -> None:
        if (failure := self._stream.failure) is not None:
            raise _refusal(failure.status, failure.body)
        if self._stream.uncounted:
            self._attempt.was_not_counted()
        elif not self._stream.complete:
            raise UpstreamBroken("the stream ended before it was complete")
        self._attempt.replica.fingerprint = self._stream.fingerprint
        self._attempt.end = (last.forward,)
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


def _silence(deadlines: Deadlines, lease: Lease) -> Exception:
    """Return what it means that a deadline is over."""
    if deadlines.blames_client:
        return ClientGone()
    if lease.bereaved:
        return ReplicaGone("the replica is gone")
    lease.missed()
    return UpstreamTimeout("the replica was silent for too long")


def _identify(attempt: Attempt, request_id: str, begin: bytes) -> None:
    """Pass an answer that may be this request's; raise `ForeignAnswer`."""
    own = attempt.admitted.call.request.protocol.answers(request_id, begin)
    if own is not None and not attempt.replica.answered(own=own):
        raise ForeignAnswer("the answer has the id of another request")


def _whole(parts: list[bytes], attempt: Attempt, request_id: str) -> list[bytes]:
    request = attempt.admitted.call.request
    if parts:
        _identify(attempt, request_id, parts[0] if len(parts[0]) > _ID_BYTES_MAX else b"".join(parts))
    answer = request.protocol.read_answer(request, parts)
    attempt.observed(answer.usage)
    if answer.aborted:
        raise UpstreamBroken("the engine gave the request up")
    if not attempt.known:
        attempt.was_not_counted()
    return named_answer(parts, attempt.admitted.call.model.name) if attempt.replica.serves else parts


async def _refused(response: UpstreamResponse) -> Exception:
    """Return what an answer with a status of its own stands for."""
    try:
        return _refusal(response.status, await response.read(ANSWER_BYTES_MAX))
    except ResponseTooLarge:
        return Declined(response.status)


def _refusal(status: int | None, body: bytes) -> Exception:
    """Return what an answer of this status stands for, or an error frame that says it instead."""
    if status in _PASSED_THROUGH and _is_json(body):
        return EngineRefused(status, body)
    return Declined(status)


def _is_json(body: bytes) -> bool:
    if len(body) > _PARSED_BYTES_MAX:
        return body.startswith(b"{") and body.endswith(b"}")
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
