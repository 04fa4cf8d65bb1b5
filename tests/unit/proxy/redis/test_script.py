"""A script has the name that Redis gives it."""

from proxy.redis.script import Script


def test_the_sha_is_the_one_that_redis_computes() -> None:
    assert Script("x", "return 1").sha == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
