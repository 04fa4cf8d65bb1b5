from collections.abc import Callable

import pytest

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
