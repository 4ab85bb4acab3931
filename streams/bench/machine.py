"""Describe the machine that a benchmark runs on: processor, cores, threads and versions of packages."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "usearch",
    "faust-streaming",
    "aiokafka",
    "confluent-kafka",
    "redis",
)
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")
_CPUINFO = Path("/proc/cpuinfo")


def machine() -> dict[str, str]:
    """Return the facts that decide the speed, by name; packages that are not installed are missing."""
    import torch

    fields = processor()
    flags = [flag for flag in BFLOAT16_FLAGS if flag in fields.get("flags", "").split()]
    facts = {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "flags": " ".join(flags) or f"without {' and '.join(BFLOAT16_FLAGS)}",
        "cores": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            facts[package] = version(package)
    return facts


def processor() -> dict[str, str]:
    """Return the fields of /proc/cpuinfo of the last processor; empty if there is no such file."""
    lines = _CPUINFO.read_text(encoding="utf-8").splitlines() if _CPUINFO.is_file() else []
    fields = dict(line.partition(":")[::2] for line in lines)
    return {key.strip(): value.strip() for key, value in fields.items()}
