"""What is measured: each candidate says how it is started and what it does with a request."""

from tests.bench.candidates.candidate import Candidate
from tests.bench.candidates.direct import Direct
from tests.bench.candidates.nginx import Nginx
from tests.bench.candidates.routers import Router
from tests.bench.candidates.tollway import Tollway

CANDIDATES: tuple[Candidate, ...] = (
    Direct(),
    Nginx(),
    Router("vllm-router", "0.1.17", "cache_aware"),
    Router("vllm-router", "0.1.17", "round_robin"),
    Router("sglang-router", "0.3.2", "cache_aware"),
    Tollway(),
)
"""In the order of the tables."""

__all__ = ["CANDIDATES", "Candidate"]
