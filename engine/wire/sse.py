"""
Server-sent events as bytes: whole frames out of reads that end anywhere.

Rules: lines end in CR, LF or CRLF and nothing else (a U+2028 inside a JSON string is text); a blank line ends a frame;
a frame keeps its bytes, terminator included, so that what is relayed is what was received (but for a byte order mark,
which belongs to the stream and to no frame).
Source: WHATWG HTML, "Server-sent events", section 9.2.6.
"""

import re

from engine.faults import FrameTooLarge

FRAME_BYTES_MAX = 4 * 1024 * 1024
"""A frame larger than this is a fault of the sender; the longest honest ones carry logprobs."""

_EOL = rb"(?:\r\n|\n|\r(?!\n))"
_BLANK_LINE = re.compile(_EOL + _EOL)
_BLANK_LINE_BYTES_MAX = 4
_LINE = re.compile(_EOL)
_VLLMS_OWN_ENDS = (b"}\n\n", b"]\n\n")
"""Of a chunk or an error, and of `[DONE]`. Behind a third LF there may be more of the next frame."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class FrameSplitter:
    """
    Cut a byte stream into frames.

    Bounds: holds at most `FRAME_BYTES_MAX` bytes and one read.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._searched = 0
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that `data` completes; raise `FrameTooLarge` when one never ends."""
        if self._begun and not self._rest and data.endswith(_VLLMS_OWN_ENDS) and b"\r" not in data:
            # Whole frames in vLLM's own writing: the search below would find the same.
            return [frame + b"\n\n" for frame in data[:-2].split(b"\n\n")]
        data = self._rest + data if self._rest else data
        if not self._begun:
            if _BYTE_ORDER_MARK.startswith(data):
                self._rest = b"" if data == _BYTE_ORDER_MARK else data
                self._begun = data == _BYTE_ORDER_MARK
                return []
            self._begun = True
            data = data.removeprefix(_BYTE_ORDER_MARK)
        frames: list[bytes] = []
        start = 0
        # A frame that takes long to end is searched once, but for a blank line that the last read may have cut.
        search = self._searched
        # A CR at the very end may be half of a CRLF: it is looked at again with the next read.
        end = len(data) - 1 if data.endswith(b"\r") else len(data)
        while (blank := _BLANK_LINE.search(data, search, end)) is not None:
            frames.append(data[start : blank.end()])
            start = search = blank.end()
        self._rest = data[start:]
        self._searched = max(0, len(self._rest) - _BLANK_LINE_BYTES_MAX)
        if len(self._rest) > FRAME_BYTES_MAX:
            raise FrameTooLarge(f"no frame end within {FRAME_BYTES_MAX} bytes")
        return frames

    @property
    def rest(self) -> bytes:
        """What came after the last whole frame; at the end of a sound stream, nothing."""
        return self._rest


def data_of(frame: bytes) -> bytes | None:
    """Return the frame's `data`, its lines joined by LF; None for a comment or an empty event."""
    if frame.startswith(b"data: ") and frame.find(b"\n") == len(frame) - 2 and b"\r" not in frame:
        return frame[6:-2]
    values = []
    for line in _LINE.split(frame):
        name, _, value = line.partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
    return b"\n".join(values) if values else None
