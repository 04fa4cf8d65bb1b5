"""
The prefix cache: which leading tokens of a prompt need no computing.

A block is a run of `block_size` tokens together with everything before it, named by a chained hash over (salt, tokens).
Rules, as in vLLM: only full blocks are kept; the salt divides the cache; the last token of a prompt is always computed
anew, so a prompt of exactly k blocks finds at most k - 1 of them; the least recently used block goes first.

Pure: no clock. Not vLLM's bytes: the hashes are Python's, good within one process and published nowhere.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class PrefixCache:
    """
    Blocks of recently computed tokens.

    Units: tokens for `queries` and `hits`, as vLLM's counters have it.
    Bounds: at most `num_blocks` blocks; 0 keeps nothing.
    Source: vllm/v1/core/kv_cache_manager.py, get_computed_blocks.
    """

    block_size: int
    num_blocks: int
    queries: int = 0
    hits: int = 0
    _blocks: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        """Return the number of blocks held."""
        return len(self._blocks)

    def match(self, salt: str | None, tokens: Sequence[int]) -> int:
        """Count how many leading tokens of a prompt are cached, and mark their blocks as used."""
        findable = (len(tokens) - 1) // self.block_size
        found = 0
        for name in self._names(salt, tokens[: findable * self.block_size]):
            if name not in self._blocks:
                break
            self._blocks.move_to_end(name)
            found += 1
        self.queries += len(tokens)
        self.hits += found * self.block_size
        return found * self.block_size

    def store(self, salt: str | None, tokens: Sequence[int]) -> None:
        """Keep every full block of `tokens`, dropping the least recently used ones for room."""
        # The last block first: of one prompt, what the others hang on must outlive what hangs on it.
        for name in reversed(list(self._names(salt, tokens))):
            self._blocks[name] = None
            self._blocks.move_to_end(name)
        while len(self._blocks) > self.num_blocks:
            self._blocks.popitem(last=False)

    def clear(self) -> None:
        """Forget every block, as a restarted replica does."""
        self._blocks.clear()

    def _names(self, salt: str | None, tokens: Sequence[int]) -> Iterator[int]:
        parent = hash(("salt", salt))
        for start in range(0, len(tokens) - self.block_size + 1, self.block_size):
            parent = hash((parent, *tokens[start : start + self.block_size]))
            yield parent
