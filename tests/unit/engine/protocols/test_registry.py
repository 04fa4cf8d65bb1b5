"""What holds for every protocol: what passes of a body, and what the engine reads instead of it."""

import json

import pytest

from engine.protocols.base import ApiProtocol
from engine.protocols.fields import left_out
from engine.protocols.registry import PROTOCOLS
from tests.unit.engine.protocols.parsing import MINIMAL, rendered, request

STEERING = {
    "priority": -1,
    "cache_salt": "another tenant's",
    "request_id": "r",
    "session_id": "s",
    "kv_transfer_params": {"do_remote_prefill": True},
    "ec_transfer_params": {},
    "vllm_xargs": {},
    "stream_interval": 100,
    "truncate_prompt_tokens": 1,
    "prompt_logprobs": 1,
    "return_token_ids": True,
    "use_beam_search": True,
    "best_of": 100,
    "user": "somebody",
    "metadata": {},
}
"""Fields by which a tenant would steer the engine past the gateway, or that the engine need not know."""

protocols = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


@protocols
@pytest.mark.parametrize("field", STEERING)
def test_what_steers_the_engine_is_left_out_and_counted(protocol: ApiProtocol, field: str) -> None:
    asked = request(protocol, **{field: STEERING[field]})
    body = protocol.render(asked, model="m", max_completion=1, cache_salt="ours", extra_fields=())
    assert left_out(asked.fields, protocol.fields, ()) == (field,)
    assert json.loads(body).get(field) == ("ours" if field == "cache_salt" else None)


@protocols
def test_an_operator_may_let_a_field_through(protocol: ApiProtocol) -> None:
    assert rendered(protocol, extra_fields=frozenset({"guided_json"}), guided_json={"a": 1})["guided_json"] == {"a": 1}


@protocols
def test_the_engine_reads_its_own_name_for_the_model_and_our_salt(protocol: ApiProtocol) -> None:
    body = rendered(protocol)
    assert (body["model"], body["cache_salt"]) == ("engine-name", "salt")
    assert body[protocol.prompt_field] == MINIMAL[protocol.name][protocol.prompt_field]


def test_each_path_is_spoken_by_one_protocol() -> None:
    assert len({protocol.path for protocol in PROTOCOLS.values()}) == len(PROTOCOLS) == 3
