"""
The replica's /metrics: the series of vLLM that a gateway reads, in Prometheus text format.

Rules: vLLM's names and labels (`engine`, `model_name`, …); counters as floats. The histograms of vLLM are left out.
"""

from engine.sim.config import SimConfig
from engine.sim.engine import Engine

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"
_REASONS = ("stop", "length", "abort", "error", "repetition")


def render(config: SimConfig, engine: Engine) -> bytes:
    """Return the exposition."""
    labels = f'engine="0",model_name="{config.models[0]}"'
    counters, cache = engine.counters, engine.cache
    finished = {str(reason): count for reason, count in counters.finished.items()}
    series: list[tuple[str, str, str, float]] = [
        ("num_requests_running", "gauge", "Number of requests in model execution batches.", len(engine.running)),
        ("num_requests_waiting", "gauge", "Number of requests waiting to be processed.", engine.waiting),
        ("kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", engine.kv_usage),
        ("prefix_cache_queries_total", "counter", _prefix("queries", "queried"), cache.queries),
        ("prefix_cache_hits_total", "counter", _prefix("hits", "cached"), cache.hits),
        ("prompt_tokens_total", "counter", "Number of prefill tokens processed.", counters.prompt_tokens),
        ("prompt_tokens_cached_total", "counter", "Number of cached prompt tokens.", counters.cached_tokens),
        ("generation_tokens_total", "counter", "Number of generation tokens processed.", counters.generated_tokens),
    ]
    lines = [line for name, kind, text, value in series for line in _series(name, kind, text, {labels: value})]
    by_reason = {
        f'engine="0",finished_reason="{reason}",model_name="{config.models[0]}"': float(finished.get(reason, 0))
        for reason in _REASONS
    }
    lines += _series("request_success_total", "counter", "Count of successfully processed requests.", by_reason)
    info = f'block_size="{config.block_size}",enable_prefix_caching="{config.num_blocks > 0}",engine="0"'
    info += f',num_gpu_blocks="{config.num_blocks}"'
    lines += _series("cache_config_info", "gauge", "Information of the LLMEngine CacheConfig", {info: 1})
    return ("\n".join(lines) + "\n").encode()


def _series(name: str, kind: str, text: str, values: dict[str, float]) -> list[str]:
    rows = [f"vllm:{name}{{{labels}}} {float(value)}" for labels, value in values.items()]
    return [f"# HELP vllm:{name} {text}", f"# TYPE vllm:{name} {kind}", *rows]


def _prefix(what: str, tokens: str) -> str:
    return f"Prefix cache {what}, in terms of number of {tokens} tokens."
