"""What a failed call means."""

import pytest

from proxy.redis.refusal import SILENT, RedisRefusal
from proxy.redis.socket import ErrorReply, ServerSilent, SocketLost


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (ErrorReply("NOPERM this user has no permissions to run the 'evalsha' command"), "noperm"),
        (ErrorReply("ERR Error running script (call to f_1): @user_script:3: OOM command not allowed"), "oom"),
        (SocketLost("READONLY You can't write against a read only replica."), "readonly"),
        (ErrorReply("MISCONF Redis is configured to save RDB snapshots"), "misconf"),
        (ErrorReply("LOADING Redis is loading the dataset in memory"), "loading"),
        (ErrorReply("BUSY Redis is busy running a script."), "busy"),
        (ErrorReply("ERR max number of clients reached"), "maxclients"),
        (SocketLost("[Errno 111] Connect call failed"), SILENT),
        (ServerSilent("no answer within 1 s"), SILENT),
    ],
)
def test_what_redis_says_has_a_word(fault: Exception, reason: str) -> None:
    refusal = RedisRefusal.of(fault)
    assert refusal is not None
    assert refusal.reason == reason
    assert str(fault) in refusal.said or refusal.said in str(fault)
    assert str(fault) not in refusal.words


def test_an_error_of_one_key_says_nothing_of_redis() -> None:
    assert RedisRefusal.of(ErrorReply("WRONGTYPE Operation against a key holding the wrong kind of value")) is None
    assert RedisRefusal.of(ErrorReply("ERR user_script:9: a reservation of version 9")) is None
