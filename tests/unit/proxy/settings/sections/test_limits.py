from collections.abc import Callable

import pytest

from proxy.settings.loading import parse

Faults = Callable[..., dict[str, str]]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("body_bytes_max = 1023", "body_bytes_max"),
        ("json_depth_max = 201", "json_depth_max"),
        ("attempts_max = 0", "attempts_max"),
        ("ttft_s_max = 0.0", "ttft_s_max"),
        ("drain_s_max = -1.0", "drain_s_max"),
    ],
)
def test_a_bound_that_bounds_nothing_is_refused(faults: Faults, line: str, path: str) -> None:
    assert list(faults(more=f"[limits]\n{line}")) == [f"limits.{path}"]


def test_clients_of_vllm_find_the_bounds_that_they_expect(minimal: str) -> None:
    settings = parse(minimal, {})
    assert settings.limits.inputs_max == 2_048, "texts to embed, as OpenAI takes"
    assert settings.models[0].default_completion == 4_096
    assert (settings.limits.idle_s_max, settings.limits.head_hold_s_max) == (300, 15), "of nginx and browsers: 60"
