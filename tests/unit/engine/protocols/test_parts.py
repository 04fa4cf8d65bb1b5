"""Which parts of a content go on, and that none of them holds more than it says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.faults import MalformedRequest
from engine.protocols.parts import is_text, written

EVIL = {"image_url": "https://evil.example/a", "uuid": "u"}
"""Fields by which vLLM 0.32 takes a part of any type for a picture: seen with its own parser of parts."""
TEXT = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    ("part", "goes_on_as"),
    [
        ("a", "a"),
        (TEXT, TEXT),
        (TEXT | {"cache_control": {"type": "ephemeral"}}, TEXT),
        ({"type": "input_text", "text": "a"}, TEXT),
        ({"type": "output_text", "text": "a", "annotations": []}, TEXT),
        ({"type": "refusal", "refusal": "a"}, {"type": "refusal", "refusal": "a"}),
        ({"type": "thinking", "thinking": "a"}, {"type": "thinking", "thinking": "a"}),
        ({"type": "thinking", "thinking": "a", "closed": True}, {"type": "thinking", "thinking": "a", "closed": True}),
        ({"type": "thinking", "thinking": "a", "signature": "s"}, {"type": "thinking", "thinking": "a"}),
        (TEXT | EVIL, TEXT),
        (TEXT | {"video_url": {"url": "https://evil.example/a"}, "uuid": "u"}, TEXT),
        ({"type": "refusal", "refusal": "a"} | EVIL, {"type": "refusal", "refusal": "a"}),
        ({"type": "thinking", "thinking": "a"} | EVIL, {"type": "thinking", "thinking": "a"}),
    ],
)
def test_a_text_goes_on_alone(part: Any, goes_on_as: Any) -> None:
    (goes_on,) = written([part])
    assert goes_on == goes_on_as
    assert is_text(goes_on)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text"} | EVIL,
        {"type": "text", "text": None} | EVIL,
        {"type": "text", "text": 7},
        {"type": "refusal", "text": "a"},
        {"type": ["text"], "text": "a"},
        {"type": "tool_reference", "name": "f"},
        {"type": "image_embeds", "image_embeds": "AA=="},
        {"type": "prompt_embeds", "data": "AA=="},
        {"type": "file", "file": {"file_id": "f"}},
        {"text": "a"},
        EVIL,
        {},
        7,
        None,
    ],
)
def test_what_is_neither_text_nor_plain_media_is_refused(part: Any) -> None:
    with pytest.raises(MalformedRequest) as caught:
        written([part])
    assert caught.value.param == "messages"


NAMES = "type text refusal thinking closed image_url video_url input_audio image_embeds uuid data name url".split()
KINDS = "text input_text output_text refusal thinking image_url input_image video_url input_audio odd".split()
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
OBJECTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3)


@given(part=st.dictionaries(st.sampled_from(NAMES), VALUES | OBJECTS), kind=st.sampled_from(KINDS))
def test_no_part_that_goes_on_holds_more_than_it_says(part: dict[str, Any], kind: str) -> None:
    try:
        (goes_on,) = written([part | {"type": kind}])
    except MalformedRequest:
        return
    said = goes_on["type"]
    assert goes_on.keys() <= {"type", said} | ({"closed"} if said == "thinking" else set())
    assert isinstance(goes_on[said], str) == is_text(goes_on)
