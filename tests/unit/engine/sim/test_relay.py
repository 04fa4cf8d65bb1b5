"""A relay's answer is complete when its sequences are, and honest when they are not."""

from typing import Any

from engine.sim.chat_wire import ChatWire
from engine.sim.config import SimConfig
from engine.sim.engine import Engine
from engine.sim.exchange import SimExchange
from engine.sim.job import SimJob, chat_job
from engine.sim.relay import SimRelay
from engine.sim.sequence import Limits, Sequence, Trap
from engine.sim.tokens import Text
from engine.sim.wire import AnswerHeader

CONFIG = SimConfig(prefill_us_per_token=0, decode_us_per_token=0)


async def relayed(job: SimJob, *limits: Limits) -> list[dict[str, Any]]:
    """Return what one answer sent."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("the relay does not read")

    exchange = SimExchange({"path": "/", "headers": []}, receive, send)
    sequences = [Sequence(i, (1,), Text(i, (1,), 0, 9), one) for i, one in enumerate(limits)]
    engine = Engine(CONFIG)
    await SimRelay(engine, exchange, ChatWire(AnswerHeader("chatcmpl-1", 0, "demo", job, 16))).run(job, sequences)
    assert len(engine.running) == 0
    return sent


def job(**extra: Any) -> SimJob:
    return chat_job({"messages": [{"role": "user", "content": "x"}], **extra}, CONFIG)


async def test_a_stream_opens_with_all_roles_and_ends_with_done() -> None:
    limits = Limits(2, ignore_eos=True)
    start, *bodies = await relayed(job(stream=True, n=2), limits, limits)
    frames = [body["body"] for body in bodies]
    assert start["status"] == 200
    assert [b'"role"' in frame for frame in frames] == [True, True, False, False, False, False, False, False]
    assert frames[-2:] == [b"data: [DONE]\n\n", b""]


async def test_a_dead_engine_is_a_500_unless_the_head_is_out() -> None:
    trap = Limits(9, ignore_eos=True, trap=Trap.ENGINE_DEAD, trap_after=1)
    plain = await relayed(job(), trap)
    assert plain[0]["status"] == 500
    stream = await relayed(job(stream=True), trap)
    assert stream[0]["status"] == 200
    assert [body["body"][:14] for body in stream[-3:]] == [b'data: {"error"', b"data: [DONE]\n\n", b""]


async def test_a_crash_sends_no_end() -> None:
    sent = await relayed(job(stream=True), Limits(9, ignore_eos=True, trap=Trap.CRASH, trap_after=1))
    assert all(body["more_body"] for body in sent[1:])
    assert await relayed(job(), Limits(9, ignore_eos=True, trap=Trap.CRASH)) == []
