import httpx
import pytest

from proxy.edge.edge import Edge
from proxy.redis.socket import ErrorReply
from tests.unit.proxy.api.conftest import Ping
from tests.unit.proxy.gateway import Gateway


async def test_a_gateway_that_answers_is_live_whatever_is_away(
    public: httpx.AsyncClient, gw: Gateway, redis: Ping
) -> None:
    redis.answers = False
    for replica in gw.pools["demo"]:
        replica.healthy = False
    assert (await public.get("/health/live")).status_code == 200


@pytest.mark.parametrize(
    ("redis_answers", "down", "ready"),
    [
        (True, (), True),
        (True, ("a", "s"), True),
        (True, ("a", "b", "s"), False),
        (False, (), False),
    ],
)
async def test_ready_needs_redis_and_one_replica(
    public: httpx.AsyncClient, gw: Gateway, redis: Ping, *, redis_answers: bool, down: tuple[str, ...], ready: bool
) -> None:
    redis.answers = redis_answers
    for pool in gw.pools.values():
        for replica in pool:
            replica.healthy = replica.name not in down
    answer = await public.get("/health/ready")
    assert answer.status_code == (200 if ready else 503)
    assert answer.json() == {
        "status": "ready" if ready else "not_ready",
        "redis": redis_answers,
        "ledger": True,
        "replicas": len(down) < 3,
    }


@pytest.mark.parametrize("answers", [True, False])
async def test_who_asks_as_vllm_is_asked_is_told_whether_the_gateway_is_ready(
    public: httpx.AsyncClient, redis: Ping, *, answers: bool
) -> None:
    redis.answers = answers
    asked, ready = await public.get("/health"), await public.get("/health/ready")
    assert (asked.status_code, asked.json()) == (ready.status_code, ready.json())
    assert asked.status_code == (200 if answers else 503)


async def test_a_gateway_that_stops_is_not_ready(public: httpx.AsyncClient, edge: Edge) -> None:
    edge.draining = True
    answer = await public.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "draining")
    assert (await public.get("/health/live")).status_code == 200


async def test_a_redis_without_its_data_is_not_ready_and_says_why(public: httpx.AsyncClient, redis: Ping) -> None:
    redis.lost = True
    answer = await public.get("/health/ready")
    assert answer.status_code == 503
    assert (answer.json()["redis"], answer.json()["ledger"]) == (True, False)
    assert "without its data" in answer.json()["reason"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("NOPERM User x has no permissions to run the 'evalsha' command", "Redis refuses (NOPERM)"),
        ("OOM command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:20.", "out of memory"),
        ("READONLY You can't write against a read only replica.", "takes no writes"),
    ],
)
async def test_a_redis_that_refuses_is_not_ready_and_its_code_is_told(
    public: httpx.AsyncClient, redis: Ping, said: str, told: str
) -> None:
    redis.answers, redis.says = False, ErrorReply(said)
    answer = await public.get("/health/ready")
    assert answer.status_code == 503
    assert told in answer.json()["reason"]
    assert "evalsha" not in answer.text, "all that it said is for operators"


async def test_a_log_that_cannot_be_written_is_not_ready_and_says_why(public: httpx.AsyncClient, redis: Ping) -> None:
    redis.why = "No space left on device"
    answer = await public.get("/health/ready")
    assert (answer.status_code, answer.json()["journal"]) == (503, False)
    assert answer.json()["reason"].endswith("cannot be written: No space left on device")
