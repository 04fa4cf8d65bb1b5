from pathlib import Path
from typing import Any

import pytest

from engine.protocols.usage import Usage
from policies.routing import Job
from proxy.admitted import Admitted
from proxy.catalog import Catalog
from proxy.settings.loading import parse
from tests.unit.proxy.gateway import CONFIG
from tests.unit.proxy.test_call import CHAT_BODY, call


def admitted(folder: Path, max_completion: int = 64, **fields: Any) -> Admitted:
    asked = call(Catalog.of(parse(CONFIG, {}, folder=folder)), CHAT_BODY | fields)
    return Admitted(asked, asked.ask(hold_us=1), max_completion, (), at=0.0)


def test_what_is_reserved_covers_all_choices(tmp_path: Path) -> None:
    granted = admitted(tmp_path, n=2)
    assert granted.completion_tokens_max == 2 * 64
    assert granted.prompt_tokens_max == 4096
    assert granted.job() == Job("demo", 2, granted.call.request.prompt.text_bytes + 2 * 64)


@pytest.mark.parametrize(("asked", "granted", "ours"), [(100, 99, True), (100, 100, False), (None, 100, True)])
def test_a_limit_that_is_not_the_clients_number_is_ours(
    tmp_path: Path, asked: int | None, granted: int, *, ours: bool
) -> None:
    assert admitted(tmp_path, granted, max_tokens=asked).ours is ours


def test_what_the_prompt_does_not_need_is_spare_once_it_is_counted(tmp_path: Path) -> None:
    granted = admitted(tmp_path)
    assert granted.spare(Usage()) == 0
    assert granted.spare(Usage(7, 0, 1)) == granted.asked.prompt_tokens - 7
    assert granted.spare(Usage(4096, 0, 1)) == 0
