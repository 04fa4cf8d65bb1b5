"""
The command line and the environment that start one replica: the simulator, or vLLM on GPUs or on a CPU.

Source: vLLM's `vllm serve --help` and `vllm/envs.py` (0.32).
"""

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

VLLM_HOME = Path(".venv-vllm")
"""Where `deploy/vllm/install.sh` puts vLLM and the tiny model, from the working directory."""
ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd")
"""Device files of NVIDIA's and AMD's drivers."""
TINY_KV_BYTES = 64 * 2**20
"""Holds 131,072 tokens of the tiny model: 64 sequences of 2,048."""
SCRATCH_BYTES_MAX = 60
"""vLLM names its sockets by 37 more bytes, and the kernel takes 107."""
GPU_SHARE = 0.8
"""Of a GPU's memory, for all replicas of one launch together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """One replica to start."""

    name: str
    engine: Literal["sim", "vllm"]
    model: str
    """The name it is served by."""
    sequences: int
    """How many choices run at a time, vLLM's `--max-num-seqs`."""
    context_tokens: int
    """Prompt and completion together at most, vLLM's `--max-model-len`."""
    port: int | None = None
    """On the loopback; None takes a free one."""
    weights: str = ""
    """vLLM alone: a folder or a Hugging Face name; empty is the tiny model that the installer made."""
    args: tuple[str, ...] = ()
    """Further arguments; they win over ours."""


@dataclass(frozen=True, slots=True)
class LaunchCommand:
    """What to run, and what to set in its environment beside our own."""

    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)


class EngineMissing(Exception):
    """There is no vLLM to start; the message says how to get it."""


def sim(spec: LaunchSpec, port: int) -> LaunchCommand:
    """Return what starts a simulated replica: the command `tollway sim` of this installation."""
    tollway = str(Path(sys.executable).with_name("tollway"))
    return LaunchCommand((tollway, "sim", *_common(spec, port), *spec.args))


def vllm(spec: LaunchSpec, port: int, *, beside: int = 1) -> LaunchCommand:
    """
    Return what starts a vLLM replica that shares this machine with `beside` replicas, itself among them.

    Raises: EngineMissing.
    """
    binary, weights = _found(spec.weights)
    argv = (binary, "serve", weights, *_common(spec, port, model_flag="--served-model-name"), *_METERED)
    env = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_SERVER_DEV_MODE": "1"}
    if not spec.weights:
        argv += ("--kv-cache-memory-bytes", str(TINY_KV_BYTES))
        env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} | _kept_here()
    if any(Path(device).exists() for device in ACCELERATORS):
        argv += ("--gpu-memory-utilization", f"{GPU_SHARE / beside:.3f}")
    else:
        argv += ("--enforce-eager", "--block-size", "32")
        env |= _cpu(beside)
    return LaunchCommand((*argv, *spec.args), env)


_CACHES = {
    "VLLM_CACHE_ROOT": "vllm",
    "VLLM_CONFIG_ROOT": "vllm-config",
    "HF_HOME": "huggingface",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
}

_METERED = (
    "--enable-prompt-tokens-details",  # cached tokens are billed at their own price
    "--enable-request-id-headers",
    "--scheduling-policy=priority",
    "--disable-uvicorn-access-log",
)


def _common(spec: LaunchSpec, port: int, *, model_flag: str = "--model") -> tuple[str, ...]:
    flags = {
        model_flag: spec.model,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--max-model-len": str(spec.context_tokens),
        "--max-num-seqs": str(spec.sequences),
    }
    return tuple(word for flag in flags.items() for word in flag)


def _found(weights: str) -> tuple[str, str]:
    own = VLLM_HOME.resolve() / "bin" / "vllm"
    tiny = VLLM_HOME.resolve() / "tiny"
    binary = str(own) if own.exists() else shutil.which("vllm")
    if binary is None or not (weights or tiny.is_dir()):
        raise EngineMissing(f"vLLM is not installed here; `deploy/vllm/install.sh {VLLM_HOME}` does it")
    return binary, weights or str(tiny)


def _kept_here() -> dict[str, str]:
    """Keep what vLLM and its libraries write out of the home directory, and its sockets too where their paths fit."""
    cache, scratch = VLLM_HOME.resolve() / "cache", VLLM_HOME.resolve() / "tmp"
    kept = {name: str(cache / folder) for name, folder in _CACHES.items()}
    if len(os.fsencode(scratch)) <= SCRATCH_BYTES_MAX:
        scratch.mkdir(exist_ok=True)
        kept["TMPDIR"] = str(scratch)
    return kept


def _cpu(beside: int) -> dict[str, str]:
    threads = max(1, (os.cpu_count() or 1) // beside)
    return {
        "OMP_NUM_THREADS": str(threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # or all replicas share the first core
        "TORCH_COMPILE_DISABLE": "1",  # or the first `logprobs` stalls for 10 s
        "PYTHONDONTWRITEBYTECODE": "",  # or every start compiles anew
    }
