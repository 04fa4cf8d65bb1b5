from pathlib import Path

import pytest

from tests.bench import load
from tests.bench.load import Load, Reading, ToolFailed
from tests.bench.machine import Unsuitable

LINE = (
    '{"req":1010,"err":10,"cut":2,"secs":2.000,"rps":505.0,"lat_p50":120,"lat_p90":200,"lat_p99":450,"lat_max":900,'
    '"chunks":0,"cps":0,"ttft_p50":0,"ttft_p99":0,"gap_p50":0,"gap_p99":20100,"gap_max":0,"gap_over":0,"clat_p50":0,'
    '"clat_p99":0,"clat_max":0,"conns":64,"inflight":64,"queued":0,"bytes":1,"lg_cpu":0.1,"firsterr":"code=502"}\n'
)


def test_a_reading_counts_good_answers_alone_and_cut_streams_as_errors() -> None:
    read = Reading.parse(f"a warning\n{LINE}")
    assert (read.answers_per_s, read.errors) == (500, 12)
    assert (read.p50_us, read.p99_us, read.gap_p99_us) == (120, 450, 20100)
    assert read.first_error == "code=502"


@pytest.mark.parametrize("printed", ["", "loadgen: connect: refused\n", "{}", "{broken", LINE.replace("2.000", "0")])
def test_anything_else_is_what_the_tool_said(printed: str) -> None:
    with pytest.raises(ToolFailed):
        Reading.parse(printed)


def test_a_load_is_told_in_the_generators_options() -> None:
    asked = Load(64, 2.5, Path("bodies"), rate=1000, ramp_s=1).options()
    assert dict(zip(asked[::2], asked[1::2], strict=True)) == {
        "-b": "bodies",
        "-c": "64",
        "-t": "2.5",
        "-w": "0.5",
        "-r": "1000",
        "-R": "1000",
        "-n": "0",
    }


def test_no_compiler_is_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "BUILT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsuitable, match="no C compiler"):
        load.built("loadgen")
