"""
The ways in which this replica can be told to fail, at run time.

A table of faults, set by `POST /sim/faults` with a JSON object or a list of them:

    {"kind": "crash", "after_tokens": 3, "count": 1, "path": "/v1/chat/completions"}

| kind          | what a request meets                                                                                 |
|---------------|------------------------------------------------------------------------------------------------------|
| `refuse`      | overload: 503; a stream gets 200, one error frame and `[DONE]`, or a 503 too with `"in_band": false` |
| `http_500`    | status 500 in vLLM's error envelope                                                                  |
| `hang`        | after k tokens nothing more: a silent stream, or no answer; `/health` stays 200                      |
| `crash`       | after k tokens the connection drops, without a terminator                                            |
| `engine_dead` | after k tokens an error frame and `[DONE]`; a request without stream gets 500                        |
| `abort`       | after k tokens the sequence ends with `finish_reason` "abort"                                        |
| `hold_end`    | every token, and then neither usage nor `[DONE]`                                                     |
| `late`        | its own answer, and once more the same where the next one of its connection should be                |

`after_tokens` counts the tokens of one sequence (default 0); a sequence that ends earlier never notices. `count` is how
many requests the fault hits before it is used up (default: every one until it is cleared). `path` limits it to one
endpoint. The first fault of the table that applies is taken.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class FaultKind(StrEnum):
    """The faults."""

    REFUSE = "refuse"
    HTTP_500 = "http_500"
    HANG = "hang"
    CRASH = "crash"
    ENGINE_DEAD = "engine_dead"
    ABORT = "abort"
    HOLD_END = "hold_end"
    LATE = "late"


@dataclass(slots=True)
class InjectedFault:
    """One row of the table."""

    kind: FaultKind
    after_tokens: int = 0
    """Tokens of a sequence before it happens. Range: 0 or more."""

    count: int | None = None
    """Requests that it still hits. None: all."""

    path: str | None = None
    """The endpoint that it hits. None: all that generate or embed."""

    in_band: bool = True
    """Whether a refused stream is told so after its 200 head."""


@dataclass(slots=True)
class FaultTable:
    """The faults in force."""

    _rows: list[InjectedFault] = field(default_factory=list)

    def add(self, rows: Any) -> None:
        """
        Add one fault or a list of them, all or none.

        Raises: ValueError for what is not a fault.
        """
        self._rows += [_fault(row) for row in (rows if isinstance(rows, list) else [rows])]

    def clear(self) -> None:
        """Drop every fault."""
        self._rows.clear()

    def draw(self, path: str) -> InjectedFault | None:
        """Take the fault that a request to `path` meets, and count it."""
        for row in self._rows:
            if row.path not in (None, path):
                continue
            if row.count is not None:
                row.count -= 1
                if row.count <= 0:
                    self._rows.remove(row)
            return row
        return None

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as JSON values."""
        return [asdict(row) for row in self._rows]


def _fault(row: Any) -> InjectedFault:
    if not isinstance(row, Mapping):
        raise ValueError("a fault is a JSON object")
    if unknown := row.keys() - InjectedFault.__dataclass_fields__.keys():
        raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
    if row.get("kind") not in set(FaultKind):
        raise ValueError(f"kind is one of {', '.join(FaultKind)}")
    if not _whole(row.get("after_tokens", 0), 0):
        raise ValueError("after_tokens is a whole number, 0 or more")
    if row.get("count") is not None and not _whole(row["count"], 1):
        raise ValueError("count is a whole number, 1 or more")
    return InjectedFault(**{**row, "kind": FaultKind(row["kind"])})


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and value >= least
