import pytest

from proxy.settings.faults import ConfigError, ConfigFault, dotted, in_order


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (["plans", "pro", "limits", 2, "amount"], "plans.pro.limits[2].amount"),
        (["plans", "a.b", "lane"], 'plans."a.b".lane'),
        (["plans", ""], 'plans.""'),
        ([], ""),
    ],
)
def test_paths_read_like_toml(parts: list[str | int], path: str) -> None:
    assert dotted(parts) == path


def test_faults_come_once_and_by_number() -> None:
    faults = [ConfigFault("m[10].a", "x"), ConfigFault("m[2].a", "x"), ConfigFault("", "x"), ConfigFault("m[2].a", "x")]
    assert [fault.path for fault in in_order(faults)] == ["", "m[2].a", "m[10].a"]


def test_each_fault_is_a_line_with_its_file() -> None:
    error = ConfigError([ConfigFault("a.b", "is missing"), ConfigFault("", "is not TOML")], "x.toml")
    assert str(error) == "x.toml: a.b: is missing\nx.toml: is not TOML"
    assert error.faults == [("a.b", "is missing"), ("", "is not TOML")]
