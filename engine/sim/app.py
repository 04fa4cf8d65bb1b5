"""
The replica as an ASGI callable: routes and the life of one request (`controls` has what does not generate).

Rules: the client is watched while its answer is made, and its leaving cancels the making (an ASGI app that only sends
never learns of it); the 200 head of a stream goes out before the first token; a step is a frame is a chunk.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from engine.sim.body import parse_body
from engine.sim.chat_wire import ChatWire
from engine.sim.completion_wire import CompletionWire
from engine.sim.config import SimConfig
from engine.sim.controls import Controls, Handler, Traffic
from engine.sim.embedding import embed
from engine.sim.engine import Engine
from engine.sim.exchange import HungUp, SimExchange
from engine.sim.faults import FaultKind, FaultTable
from engine.sim.job import SimJob, chat_job, completion_job
from engine.sim.rejection import EngineDead, Overloaded, Rejection, Unprocessable
from engine.sim.relay import SimRelay
from engine.sim.sequence import Limits, Sequence, Trap
from engine.sim.tokens import Text
from engine.sim.wire import AnswerFormat, AnswerHeader

MISSHAPEN = (AttributeError, KeyError, TypeError, ValueError)
"""What reading a body of the wrong types raises, beyond the types that are checked by name; a 400, as in vLLM."""


class Simulator:
    """One simulated vLLM replica; call it as an ASGI application."""

    def __init__(self, config: SimConfig | None = None) -> None:
        self.config = config or SimConfig()
        self.engine = Engine(self.config)
        self.faults = FaultTable()
        self.traffic = Traffic()
        self.controls = Controls(self.config, self.engine, self.faults, self.traffic)
        self._routes: dict[str, dict[str, Handler]] = {
            **self.controls.routes(),
            "/v1/chat/completions": {"POST": self._chat},
            "/v1/completions": {"POST": self._completions},
            "/v1/embeddings": {"POST": self._embeddings},
        }

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        exchange = SimExchange(scope, receive, send)
        methods = self._routes.get(scope["path"])
        if methods is None:
            await exchange.json(404, b'{"detail":"Not Found"}')
        elif scope["method"] not in methods:
            allowed = ", ".join(methods)
            await exchange.json(405, b'{"detail":"Method Not Allowed"}', allow=allowed)
        else:
            await methods[scope["method"]](exchange)

    async def _chat(self, exchange: SimExchange) -> None:
        await self._serve(exchange, "chatcmpl", lambda: self._generate(exchange, chat_job, ChatWire))

    async def _completions(self, exchange: SimExchange) -> None:
        await self._serve(exchange, "cmpl", lambda: self._generate(exchange, completion_job, CompletionWire))

    async def _embeddings(self, exchange: SimExchange) -> None:
        await self._serve(exchange, "embd", lambda: self._embed(exchange))

    async def _serve(self, exchange: SimExchange, prefix: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.traffic.requests += 1
        self.traffic.active += 1
        exchange.name(prefix)
        try:
            await exchange.read_body()
            await exchange.until_hung_up(work())
        except HungUp:
            self.traffic.aborted += not exchange.dropped
            self.traffic.aborted_at_us = time.time_ns() // 1_000
        finally:
            self.traffic.active -= 1

    async def _generate(
        self, exchange: SimExchange, make_job: Callable[..., SimJob], make_wire: Callable[[AnswerHeader], AnswerFormat]
    ) -> None:
        try:
            job = make_job(parse_body(exchange.body, exchange.content_type), self.config)
            limits = self._meet_fault(exchange.path, in_band=job.stream)
            exchange.comes_again = limits[0] is Trap.LATE
            if self.engine.overloaded:
                raise Overloaded
        except Rejection as rejection:
            await exchange.reject(rejection)
            return
        except MISSHAPEN:
            await exchange.reject(Unprocessable("Input should have the shape of the endpoint"))
            return
        answer = AnswerHeader(exchange.id, int(time.time()), self.config.models[0], job, self.config.block_size)
        wire = make_wire(answer)
        await SimRelay(self.engine, exchange, wire).run(job, self._sequences(job, limits, wire))

    async def _embed(self, exchange: SimExchange) -> None:
        try:
            body = parse_body(exchange.body, exchange.content_type)
            trap, _ = self._meet_fault(exchange.path, in_band=False)
            exchange.comes_again = trap is Trap.LATE
            tokens, answer = embed(body, self.config, exchange.id, int(time.time()))
            if trap is Trap.ENGINE_DEAD:
                raise EngineDead
        except Rejection as rejection:
            await exchange.reject(rejection)
            return
        except MISSHAPEN:
            await exchange.reject(Unprocessable("Input should have the shape of the endpoint"))
            return
        if trap is Trap.HANG:
            await asyncio.Event().wait()
        if trap is Trap.CRASH:
            await exchange.drop()
            return
        self.engine.counters.prompt_tokens += tokens
        await exchange.json(200, answer)

    def _meet_fault(self, path: str, *, in_band: bool) -> tuple[Trap | None, int]:
        fault = self.faults.draw(path)
        if fault is None:
            return None, 0
        if fault.kind is FaultKind.REFUSE:
            raise Overloaded(in_band=in_band and fault.in_band)
        if fault.kind is FaultKind.HTTP_500:
            raise Rejection(500, "InternalServerError", "Internal server error")
        return Trap(fault.kind.value), fault.after_tokens

    def _sequences(self, job: SimJob, trap: tuple[Trap | None, int], wire: AnswerFormat) -> list[Sequence]:
        sequences: list[Sequence] = []
        for number, (prompt, max_tokens) in enumerate(zip(job.prompts, job.max_tokens, strict=True)):
            limits = Limits(max_tokens, job.min_tokens, job.stop, job.ignore_eos, *trap)
            for choice in range(job.n):
                text = Text(self.config.seed + job.seed, prompt, choice, self.config.natural_tokens)
                sequences.append(Sequence(len(sequences), prompt, text, limits, job.salt, wire.owner(number)))
        return sequences
