"""An error has one value and two spellings: compact as a body, spaced as a frame."""

import orjson

from engine.sim.rejection import BadParameter, EngineDead, Overloaded, Rejection, UnknownModel


def test_body_and_frame_hold_the_same() -> None:
    error = BadParameter("No.", "n", 3)
    value = {"error": {"message": "No. (parameter=n, value=3)", "type": "BadRequestError", "param": "n", "code": 400}}
    assert orjson.loads(error.body()) == value
    assert orjson.loads(error.frame().removeprefix(b"data: ")) == value
    assert b'": ' not in error.body()
    assert b'{"error": {"message": ' in error.frame()
    assert error.frame().endswith(b"}\n\n")


def test_statuses() -> None:
    errors: list[Rejection] = [UnknownModel("x", ("demo", "alias")), Overloaded(), EngineDead()]
    assert [error.status for error in errors] == [404, 503, 500]
    assert b"demo, alias" in errors[0].body()
