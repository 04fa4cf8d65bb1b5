"""The prefix cache finds full blocks of what was before, salted, bounded."""

from hypothesis import given
from hypothesis import strategies as st

from engine.sim.prefix_cache import PrefixCache

BLOCK = 4
tokens = st.lists(st.integers(0, 3), min_size=1, max_size=40)


def cache_of(*prompts: list[int], num_blocks: int = 100) -> PrefixCache:
    cache = PrefixCache(BLOCK, num_blocks)
    for prompt in prompts:
        cache.store(None, prompt)
    return cache


def test_an_empty_cache_finds_nothing() -> None:
    assert cache_of().match(None, list(range(20))) == 0


def test_only_full_blocks_count() -> None:
    assert cache_of(list(range(10))).match(None, list(range(10))) == 8


def test_an_exact_multiple_loses_its_last_block() -> None:
    assert cache_of(list(range(8))).match(None, list(range(8))) == 4
    assert cache_of(list(range(8))).match(None, list(range(9))) == 8


def test_a_block_is_found_only_behind_the_same_beginning() -> None:
    cache = cache_of([1, 2, 3, 4, 5, 6, 7, 8])
    assert cache.match(None, [9, 9, 9, 9, 5, 6, 7, 8, 0]) == 0
    assert cache.match(None, [5, 6, 7, 8, 0]) == 0


def test_a_salt_has_a_cache_of_its_own() -> None:
    cache = PrefixCache(BLOCK, 100)
    cache.store("a", list(range(9)))
    assert [cache.match(salt, list(range(9))) for salt in ("a", "b", None)] == [8, 0, 0]


def test_the_least_recently_used_blocks_go_first() -> None:
    old, used, new = ([base + i for i in range(9)] for base in (0, 100, 200))
    cache = cache_of(used, old, num_blocks=4)
    assert cache.match(None, used) == 8
    cache.store(None, new)
    assert [cache.match(None, prompt) for prompt in (used, old, new)] == [8, 0, 8]


def test_a_prompt_larger_than_the_cache_keeps_its_beginning() -> None:
    cache = cache_of(list(range(100)), num_blocks=2)
    assert cache.match(None, list(range(100))) == 8


def test_without_blocks_nothing_is_kept() -> None:
    assert cache_of(list(range(20)), num_blocks=0).match(None, list(range(20))) == 0


def test_clear_forgets() -> None:
    cache = cache_of(list(range(20)))
    cache.clear()
    assert (len(cache), cache.match(None, list(range(20)))) == (0, 0)


def test_counters_are_in_tokens() -> None:
    cache = cache_of(list(range(9)))
    cache.match(None, list(range(9)))
    cache.match(None, [7] * 5)
    assert (cache.queries, cache.hits) == (14, 8)


@given(st.lists(tokens, max_size=8), tokens, st.integers(0, 6))
def test_never_more_than_was_there_or_fits(prompts: list[list[int]], asked: list[int], num_blocks: int) -> None:
    cache = cache_of(*prompts, num_blocks=num_blocks)
    assert len(cache) <= num_blocks
    found = cache.match(None, asked)
    assert found % BLOCK == 0
    assert found < len(asked)
    assert found <= num_blocks * BLOCK
    assert found == 0 or any(prompt[:found] == asked[:found] for prompt in prompts)
