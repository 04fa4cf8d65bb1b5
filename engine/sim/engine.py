"""
The engine: slots, their queue, and time.

Rules: at most `max_num_seqs` sequences run, the others wait first come first served; a sequence pays its uncached
prompt at its turn, then its tokens; one that is cancelled leaves its slot or its place at once, and what it had
generated stays counted. Nothing here knows HTTP.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Container
from collections.abc import Sequence as Ordered
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from engine.sim.config import SimConfig
from engine.sim.latency import LatencyModel
from engine.sim.prefix_cache import PrefixCache
from engine.sim.sequence import Finish, Sequence, Step, Trap

Emit = Callable[[Step], None]


@dataclass(slots=True)
class Counters:
    """What the engine has done since its start, as vLLM's metrics count it."""

    prompt_tokens: int = 0
    """Once per sequence, cached ones included: n sequences of one prompt count it n times."""

    cached_tokens: int = 0
    generated_tokens: int = 0
    finished: dict[Finish, int] = field(default_factory=lambda: dict.fromkeys(Finish, 0))
    """Sequences that ended by themselves or by shutdown; not those whose client left."""


class Engine:
    """Runs sequences."""

    def __init__(self, config: SimConfig) -> None:
        self._config = config
        self._latency = LatencyModel(config.prefill_us_per_token, config.decode_us_per_token, config.slowdown_per_mille)
        self._slots = asyncio.Semaphore(config.max_num_seqs)
        self._live: dict[int, tuple[Sequence, Emit, asyncio.Task[None]]] = {}
        self.cache = PrefixCache(config.block_size, config.num_blocks)
        self.counters = Counters()
        self.running: set[int] = set()
        """Keys of the sequences that hold a slot."""

    @property
    def waiting(self) -> int:
        """Return how many sequences wait for a slot."""
        return len(self._live) - len(self.running)

    @property
    def overloaded(self) -> bool:
        """Return whether the waiting queue takes no more."""
        return 0 < self._config.max_num_queued_reqs <= self.waiting

    @property
    def kv_usage(self) -> float:
        """Return the share of the blocks that running sequences hold, 0 to 1."""
        size = self._config.block_size
        lengths = (len(s.prompt) + len(s.generated) for key, (s, _, _) in self._live.items() if key in self.running)
        return min(1.0, sum(-(-length // size) for length in lengths) / max(1, self._config.num_blocks))

    @asynccontextmanager
    async def run(self, sequences: Ordered[Sequence]) -> AsyncIterator[AsyncIterator[Step]]:
        """Run sequences together and give out their steps as they come; whoever leaves the block ends them all."""
        steps: asyncio.Queue[Step | BaseException] = asyncio.Queue()
        tasks = [self._start(sequence, steps.put_nowait) for sequence in sequences]
        for task in tasks:
            task.add_done_callback(lambda done: _pass_on(done, steps))
        try:
            yield _drain(steps, len(tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def abort(self, owners: Container[str] | None = None) -> set[str]:
        """End what belongs to `owners` (None: everything) with `finish_reason` "abort"; return whose it was."""
        ended = set()
        for sequence, emit, task in list(self._live.values()):
            if sequence.finish is None and (owners is None or sequence.owner in owners):
                self._finish(sequence, sequence.abort(), emit)
                task.cancel()
                ended.add(sequence.owner)
        return ended

    def halt(self) -> None:
        """Work no more on what there is, and tell nobody."""
        for _, _, task in list(self._live.values()):
            task.cancel()

    def _start(self, sequence: Sequence, emit: Emit) -> asyncio.Task[None]:
        task = asyncio.create_task(self._generate(sequence, emit))
        key = id(sequence)
        self._live[key] = (sequence, emit, task)
        task.add_done_callback(lambda _: self._live.pop(key))
        return task

    async def _generate(self, sequence: Sequence, emit: Emit) -> None:
        async with self._slots:
            self.running.add(id(sequence))
            try:
                await self._prefill(sequence)
                await self._decode(sequence, emit)
            finally:
                self.running.discard(id(sequence))

    async def _prefill(self, sequence: Sequence) -> None:
        prompt = sequence.prompt
        sequence.cached_tokens = self.cache.match(sequence.salt, prompt)
        self.cache.store(sequence.salt, prompt)
        await asyncio.sleep(self._latency.prefill_us(len(prompt) - sequence.cached_tokens, len(self.running)) / 1e6)
        self.counters.prompt_tokens += len(prompt)
        self.counters.cached_tokens += sequence.cached_tokens

    async def _decode(self, sequence: Sequence, emit: Emit) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        while sequence.finish is None:
            if sequence.trapped is not None:
                await self._spring(sequence, sequence.trapped, emit)
                return
            step = sequence.advance()
            self.counters.generated_tokens += 1
            if step.finish is not None:
                self._finish(sequence, step, emit)
                return
            emit(step)
            # Against the time it should be, not from now on: a late step does not make all later ones late.
            due += self._latency.decode_us(len(self.running)) / 1e6
            await asyncio.sleep(max(0.0, due - clock()))

    async def _spring(self, sequence: Sequence, trap: Trap, emit: Emit) -> None:
        if trap is Trap.HANG:
            await asyncio.Event().wait()
        step = sequence.abort(trap)
        if trap is Trap.ABORT:
            self._finish(sequence, step, emit)
        else:
            emit(step)

    def _finish(self, sequence: Sequence, step: Step, emit: Emit) -> None:
        if step.finish is not None:
            self.counters.finished[step.finish] += 1
        self.cache.store(sequence.salt, [*sequence.prompt, *(token.id for token in sequence.generated)])
        emit(step)


def _pass_on(done: asyncio.Task[None], steps: asyncio.Queue[Step | BaseException]) -> None:
    if not done.cancelled() and (fault := done.exception()) is not None:
        steps.put_nowait(fault)


async def _drain(steps: asyncio.Queue[Step | BaseException], open_sequences: int) -> AsyncIterator[Step]:
    while open_sequences:
        step = await steps.get()
        if isinstance(step, BaseException):
            raise step
        open_sequences -= step.finish is not None
        yield step
