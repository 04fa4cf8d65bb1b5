"""
From the engine's steps to the client's bytes: one answer, streamed or whole, to its end or to its fault.

A streamed choice that is aborted before its first token gets no frame that says so, as in vLLM (transcripts 425, 427).
"""

import asyncio
from collections.abc import Sequence as Ordered

from engine.sim.engine import Engine
from engine.sim.exchange import SimExchange
from engine.sim.job import SimJob
from engine.sim.rejection import EngineDead
from engine.sim.sequence import Finish, Sequence, Step, Trap
from engine.sim.wire import AnswerFormat


class SimRelay:
    """Answers one generation request."""

    def __init__(self, engine: Engine, exchange: SimExchange, wire: AnswerFormat) -> None:
        self._engine = engine
        self._exchange = exchange
        self._wire = wire
        self._opened = False

    async def run(self, job: SimJob, sequences: Ordered[Sequence]) -> None:
        """Generate and answer."""
        if job.stream:
            await self._exchange.start_stream()
        async with self._engine.run(sequences) as steps:
            async for step in steps:
                if step.trap not in (None, Trap.ABORT):
                    await self._fail(step, stream=job.stream)
                    return
                if job.stream:
                    await self._send(step, len(sequences))
        if sequences[0].limits.trap is Trap.HOLD_END:
            await asyncio.Event().wait()
        await self._finish(job, sequences)

    async def _send(self, step: Step, choices: int) -> None:
        if not self._opened:
            self._opened = True
            for frame in self._wire.opening(choices):
                await self._exchange.chunk(frame)
        if step.finish is not Finish.ABORT or step.completion_tokens:
            await self._exchange.chunk(self._wire.frame(step))

    async def _finish(self, job: SimJob, sequences: Ordered[Sequence]) -> None:
        if not job.stream:
            await self._exchange.json(200, self._wire.body(sequences))
            return
        if job.include_usage:
            await self._exchange.chunk(self._wire.usage_frame(sequences))
        await self._exchange.end_stream()

    async def _fail(self, step: Step, *, stream: bool) -> None:
        if step.trap is Trap.CRASH:
            await self._exchange.drop()
            return
        rejection = EngineDead(in_band=stream)
        if stream:
            await self._exchange.chunk(rejection.frame())
            await self._exchange.end_stream()
        else:
            await self._exchange.reject(rejection)
