"""
The machine that reads a completion stream: bytes in, frames out, each with what it is and what of it goes on.

Rules:
- Upstream was asked for usage in every frame. What the client did not ask for is taken out by bytes; all else goes on
  as it came.
- `[DONE]` alone proves nothing: a stream is complete when the engine's own usage sum came and is of some token, no
  error frame came and no choice was aborted. vLLM sends `[DONE]` after a crash too; and what is aborted while it waits
  ends with a sum of no tokens, without a word of an abort.
- Without usage vLLM names itself (`system_fingerprint`) in the frames that end a choice, else only in the sum, which
  may not go on. What the replica called itself before is put where it would have stood: no frame waits for it.
- An error frame never goes on, and neither does what follows an abort: whoever drives this machine decides what the
  client reads.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from engine.faults import MalformedStream
from engine.protocols.answer import is_finished, unread
from engine.protocols.base import EngineFailure, Frame, FrameKind
from engine.protocols.frames import fingerprint_in, opening_of, read_chunk, read_run, signed
from engine.protocols.usage import RunningUsage, Usage
from engine.wire.sse import FrameSplitter, data_of


class CompletionStream:
    """One stream of `/v1/chat/completions` or `/v1/completions`."""

    def __init__(self, *, n: int, include_usage: bool, continuous_usage: bool, scores: bool = False) -> None:
        self._splitter = FrameSplitter()
        self._usage = RunningUsage(n, scores=scores)
        self._last = b""
        """The last content, which says of a choice that it is finished."""
        self._include_usage = include_usage
        self._continuous_usage = include_usage and continuous_usage
        self._opening: bytes | None = None
        """What frames that speak of a choice open with, up to which."""
        self.fingerprint = b""
        """The engine's name, as JSON: as it was known before, until this stream tells it."""
        self.error: dict[str, Any] | None = None
        """The engine's error object, once an error frame was received."""
        self.aborted = False
        self.done = False

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes; raise `UpstreamBroken` for what cannot be read."""
        try:
            if not self._splitter.rest and (run := self._read_run(data)) is not None:
                return [run]
            raws = self._splitter.feed(data)
            # Of a single whole frame it is known by now that it is no run.
            return [self._read(data)] if raws == [data] else list(self._read_all(raws))
        except ValueError as error:
            fault = unread(data)
            raise (MalformedStream("a frame is not what vLLM sends") if fault.again else fault) from error

    @property
    def usage(self) -> Usage | None:
        """The last usage received; None before any came."""
        return self._usage.proven if self.aborted else self._usage.so_far

    @property
    def proven(self) -> Usage | None:
        """What was computed of a stream that was aborted, even if it does not say so; None where that is not known."""
        return self._usage.proven

    @property
    def complete(self) -> bool:
        """Whether the engine finished every choice and said what they cost."""
        return self._whole and self._usage.is_summed

    @property
    def prompts_begun(self) -> int:
        """Of how many prompts a token has come."""
        return len(self._usage.begun)

    @property
    def uncounted(self) -> bool:
        """Whether the engine finished, and did not say what it cost."""
        return self._whole and not self._usage.is_summed and is_finished(self._last)

    @property
    def _whole(self) -> bool:
        return self.done and self.error is None and not self.aborted

    @property
    def failure(self) -> EngineFailure | None:
        """What the engine's error frame says; vLLM answers 200 to a stream before it looks at its parameters."""
        if self.error is None:
            return None
        code = self.error.get("code")
        return EngineFailure(code if isinstance(code, int) else None, orjson.dumps({"error": self.error}))

    def _read_all(self, raws: list[bytes]) -> Iterator[Frame]:
        start = 0
        while start < len(raws):
            end = start
            while self._opening is not None and end < len(raws) and raws[end].startswith(self._opening):
                end += 1
            alike = raws[start : max(end, start + 1)]
            run = self._read_run(b"".join(alike))
            if run is not None:
                yield run
            else:
                yield from map(self._read, alike)
            start += len(alike)

    def _read_run(self, data: bytes) -> Frame | None:
        """Return whole frames that speak of choices as one; None where there is anything else in `data`."""
        if self._opening is None or self.aborted:
            return None
        run = read_run(data, self._opening)
        if run is None:
            return None
        stripped, usages = run
        self._last = stripped
        if self.fingerprint and not self._include_usage:
            stripped = signed(stripped, self.fingerprint)
        for choice, usage in usages:
            self._usage.see(choice, usage)
        return Frame(FrameKind.CONTENT, data if self._continuous_usage else stripped)

    def _read(self, raw: bytes) -> Frame:
        data = data_of(raw)
        if data is None:
            return Frame(FrameKind.COMMENT, raw)
        if data == b"[DONE]":
            self.done = True
            return Frame(FrameKind.DONE, raw)
        chunk = read_chunk(raw, data)
        if chunk.error is not None:
            self.error = chunk.error
            return Frame(FrameKind.ERROR, b"")
        if chunk.usage is not None:
            self._usage.see(chunk.choice, chunk.usage)
        self.aborted = self.aborted or chunk.aborted
        if self.aborted:
            return Frame(FrameKind.ABORT, b"")
        if not chunk.has_choices:
            self.fingerprint = fingerprint_in(raw) or self.fingerprint
            return Frame(FrameKind.USAGE, raw if self._include_usage else b"")
        self._last = raw
        if self._opening is None:
            self._opening = opening_of(raw)
        return Frame(FrameKind.CONTENT, raw if self._continuous_usage else self._signed(chunk.stripped))

    def _signed(self, stripped: bytes) -> bytes:
        return signed(stripped, self.fingerprint) if self.fingerprint and not self._include_usage else stripped
