import pytest

from proxy.observe import series
from proxy.observe.series import Children


def test_one_is_made_for_each_set_of_labels() -> None:
    children = Children(lambda tenant, model: [tenant, model])
    first = children["a", "x"]
    assert children["b", "x"] == ["b", "x"]
    assert children["a", "x"] is first


def test_they_are_bounded_and_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "CHILDREN_MAX", 2)
    children = Children(lambda name: name.upper())
    assert [children[name,] for name in "abca"] == ["A", "B", "C", "A"]
    assert len(children) <= 2
