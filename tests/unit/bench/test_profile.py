import pytest

from tests.bench.profile import from_stacks, group_of


@pytest.mark.parametrize(
    ("frame", "group"),
    [
        ("Exchange._serve (proxy/exchange.py:68)", "our stages"),
        ("HttpxUpstream.request (engine/wire/client.py:122)", "upstream client"),
        ("AsyncHTTP11Connection.is_idle (httpcore/_async/http11.py:289)", "upstream client"),
        ("loads (orjson/orjson.cpython-311-x86_64-linux-gnu.so)", "JSON"),
        ("run_forever (loop.c:33192)", "event loop and sockets"),
        ("Redis.execute_command (redis/asyncio/client.py:700)", "Redis client"),
        ("Connection.call (proxy/redis/client.py:90)", "our stages"),
        ("PyJWS.decode (jwt/api_jws.py:200)", "JWT"),
        ("Timeout.__aexit__ (asyncio/timeouts.py:103)", "event loop and sockets"),
        ("write (libc.so.6)", None),
        ("_GeneratorContextManager.__exit__ (contextlib.py:144)", None),
    ],
)
def test_a_frame_belongs_to_its_file(frame: str, group: str | None) -> None:
    assert group_of(frame) == group


def test_self_time_goes_to_the_inner_function_and_to_the_first_group_above_it() -> None:
    spent = from_stacks(
        [
            "run (uvloop/__init__.py:92);serve (proxy/exchange.py:68);__exit__ (contextlib.py:144) 3",
            "run (uvloop/__init__.py:92);serve (proxy/exchange.py:70);loads (orjson.so) 2",
            "start (libc.so.6) 1",
            "_work (proxy/store/journal/thread.py:60);get (_queuemodule.c:256);pthread_cond_timedwait (libc.so.6) 9",
        ]
    )
    assert spent.functions == {"__exit__  contextlib.py": 3, "serve  proxy/exchange.py": 2, "start (libc.so.6)": 1}
    assert spent.groups == {"our stages": 3, "JSON": 2, "other": 1}
    assert "50.0 %  our stages" in spent.told()
