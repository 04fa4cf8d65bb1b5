"""What starts a replica: the flags and the environment, on a CPU and on a GPU."""

from itertools import pairwise
from pathlib import Path

import pytest

from engine.fleet import command
from engine.fleet.command import EngineMissing, LaunchSpec

SPEC = LaunchSpec(name="one", engine="vllm", model="demo", sequences=64, context_tokens=8192, args=("--port", "1"))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the installer leaves it, on a machine without a GPU."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "vllm").touch(mode=0o755)
    (tmp_path / "tiny").mkdir()
    monkeypatch.setattr(command, "VLLM_HOME", tmp_path)
    monkeypatch.setattr(command, "ACCELERATORS", ())
    return tmp_path


def flags(argv: tuple[str, ...]) -> set[tuple[str, str]]:
    return {(name, value) for name, value in pairwise(argv) if name.startswith("--")}


def test_a_simulated_replica_is_this_installations_own_command() -> None:
    argv = command.sim(SPEC, 8201).argv
    assert Path(argv[0]).exists()
    assert argv[1] == "sim"
    assert {("--port", "8201"), ("--model", "demo"), ("--max-num-seqs", "64")} <= flags(argv)


def test_arguments_of_the_config_come_last_and_so_win(installed: Path) -> None:
    assert command.vllm(SPEC, 8201).argv[-2:] == ("--port", "1")
    assert command.sim(SPEC, 8201).argv[-2:] == ("--port", "1")


def test_vllm_serves_the_tiny_model_by_the_name_of_the_config(installed: Path) -> None:
    argv = command.vllm(SPEC, 8201).argv
    assert argv[:3] == (str(installed / "bin" / "vllm"), "serve", str(installed / "tiny"))
    assert {("--served-model-name", "demo"), ("--max-model-len", "8192"), ("--max-num-seqs", "64")} <= flags(argv)
    assert "--enable-prompt-tokens-details" in argv


def test_the_tiny_model_needs_no_network_and_writes_nothing_to_the_home_directory(installed: Path) -> None:
    env = command.vllm(SPEC, 8201).env
    assert env["HF_HUB_OFFLINE"] == "1"
    for name in ("HF_HOME", "VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT"):
        assert Path(env[name]).is_relative_to(installed)


def test_weights_of_ones_own_may_be_fetched_and_get_vllms_own_cache_size(installed: Path) -> None:
    own = LaunchSpec(
        name="one", engine="vllm", model="demo", sequences=64, context_tokens=8192, weights="Qwen/Qwen3-0.6B"
    )
    made = command.vllm(own, 8201)
    assert made.argv[2] == "Qwen/Qwen3-0.6B"
    assert "HF_HUB_OFFLINE" not in made.env
    assert "--kv-cache-memory-bytes" not in made.argv


def test_replicas_share_the_cores_of_a_machine_without_a_gpu(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    made = command.vllm(SPEC, 8201, beside=2)
    assert "--enforce-eager" in made.argv
    assert (made.env["OMP_NUM_THREADS"], made.env["VLLM_CPU_OMP_THREADS_BIND"]) == ("4", "nobind")


def test_replicas_share_the_memory_of_a_gpu(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ACCELERATORS", (str(installed),))
    made = command.vllm(SPEC, 8201, beside=2)
    assert ("--gpu-memory-utilization", "0.400") in flags(made.argv)
    assert "--enforce-eager" not in made.argv
    assert "TORCH_COMPILE_DISABLE" not in made.env


def test_sockets_stay_here_only_where_their_paths_fit(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SCRATCH_BYTES_MAX", 1000)
    assert command.vllm(SPEC, 8201).env["TMPDIR"] == str(installed / "tmp")
    monkeypatch.setattr(command, "SCRATCH_BYTES_MAX", 1)
    assert "TMPDIR" not in command.vllm(SPEC, 8201).env


def test_without_vllm_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "VLLM_HOME", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match=r"install\.sh"):
        command.vllm(SPEC, 8201)
