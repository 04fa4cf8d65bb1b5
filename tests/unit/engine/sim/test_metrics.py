"""The exposition is one that Prometheus's own parser reads, with vLLM's names."""

from prometheus_client.parser import text_string_to_metric_families

from engine.sim import metrics
from engine.sim.config import SimConfig
from engine.sim.engine import Engine

CONFIG = SimConfig(models=("demo",), block_size=32, num_blocks=7)


async def test_the_exposition_parses_and_names_the_engine_and_the_model() -> None:
    engine = Engine(CONFIG)
    engine.counters.generated_tokens = 5
    families = list(text_string_to_metric_families(metrics.render(CONFIG, engine).decode()))
    samples = {sample.name: sample for family in families for sample in family.samples}
    assert samples["vllm:generation_tokens_total"].value == 5
    assert samples["vllm:num_requests_running"].labels == {"engine": "0", "model_name": "demo"}
    assert samples["vllm:cache_config_info"].labels["block_size"] == "32"
    assert samples["vllm:cache_config_info"].labels["num_gpu_blocks"] == "7"
    reasons = {sample.labels.get("finished_reason") for family in families for sample in family.samples}
    assert {"stop", "length", "abort"} <= reasons
