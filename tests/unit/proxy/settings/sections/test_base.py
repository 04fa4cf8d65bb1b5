import pydantic
import pytest

from proxy.settings.loading import parse


def test_settings_cannot_be_changed(minimal: str) -> None:
    settings = parse(minimal, {})
    with pytest.raises(pydantic.ValidationError):
        settings.listen.port = 1
