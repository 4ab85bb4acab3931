"""The device and the number format that models run in, and the reason for the choice.

Knows no model. Imports torch at the first call.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from encoders.errors import AfterclickError

DEVICES = ("auto", "cpu", "cuda")
SERVER = "server"
"""The device of a model that is asked by HTTP."""
DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")
MIN_SPEED_UP = 1.5
"""Of bfloat16 over float32; chosen by us: bfloat16 costs three decimal digits, so a small gain does not pay for it."""
PROBE_ROWS, PROBE_IN, PROBE_OUT = 256, 384, 1536
"""One feed-forward layer of MiniLM over a batch of 256 tokens."""
PROBE_REPEATS = 75


class DeviceUnavailable(AfterclickError):
    """The requested device does not exist here."""


@dataclass(frozen=True)
class Placement:
    """Where a model runs, and the reason in words.

    Attributes
    ----------
    device : {'cpu', 'cuda', 'server'}
    dtype : str
        The name of a torch dtype; 'int8' means linear layers in int8, the rest in float32 (`encoders.models.int8`).
    reason : str
    """

    device: str
    dtype: str
    reason: str


@cache
def choose(device: str = "auto", dtype: str = "auto") -> Placement:
    """Choose the device and the dtype. Explicit values are always obeyed.

    Parameters
    ----------
    device : {'auto', 'cpu', 'cuda'}
        'auto' takes CUDA if it is available.
    dtype : {'auto', 'float32', 'bfloat16', 'float16', 'int8'}
        'auto' takes bfloat16 on CUDA (float16 where the card has no bfloat16). On a CPU the processor's flags decide,
        so that every start decides alike (`_by_flags`). Where they do not decide, one matrix product is timed in both,
        and bfloat16 is taken if it is at least `MIN_SPEED_UP` times as fast. 'auto' never takes int8, which costs
        quality.

    Raises
    ------
    DeviceUnavailable
        'cuda' without a CUDA device that torch sees, or 'int8' where models run on CUDA.
    ValueError
        A value that is not listed above.
    """
    if device not in DEVICES:
        raise ValueError(f"device: got {device!r}, expected one of {', '.join(DEVICES)}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype: got {dtype!r}, expected one of {', '.join(DTYPES)}")
    import torch

    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise DeviceUnavailable(
            f"device: got 'cuda', expected a CUDA device that torch {torch.__version__} can use; install the "
            "driver and a CUDA build of torch, or set the device to 'auto' or 'cpu'"
        )
    chosen = "cuda" if has_cuda and device != "cpu" else "cpu"
    if dtype == "int8" and chosen == "cuda":
        raise DeviceUnavailable("dtype: got 'int8' on CUDA, expected it on a CPU; set the dtype to 'auto'")
    why = f"{chosen} was asked for" if device != "auto" else f"CUDA {'is' if has_cuda else 'is not'} available"
    if dtype != "auto":
        slow = (
            " (a CPU multiplies it several times slower than float32)" if (chosen, dtype) == ("cpu", "float16") else ""
        )
        return Placement(chosen, dtype, f"{why}; {dtype} was asked for{slow}")
    if chosen == "cuda":
        card = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Placement(chosen, "bfloat16", f"{why}; {card} has bfloat16")
        return Placement(chosen, "float16", f"{why}; {card} has no bfloat16")
    by_flags = _by_flags(_cpuinfo())
    if by_flags is not None:
        return Placement(chosen, by_flags, f"{why}; {by_flags} for a processor of {_processor()}")
    fp32_ms, bf16_ms = _probe_ms()
    faster = fp32_ms >= MIN_SPEED_UP * bf16_ms
    return Placement(
        chosen,
        "bfloat16" if faster else "float32",
        f"{why}; a {PROBE_ROWS}x{PROBE_IN}x{PROBE_OUT} matrix product takes {fp32_ms:.2f} ms in float32 and "
        f"{bf16_ms:.2f} ms in bfloat16 ({'at least' if faster else 'not'} {MIN_SPEED_UP} times as fast) "
        f"on {_processor()}",
    )


def _by_flags(cpuinfo: Collection[str]) -> str | None:
    """The faster of float32 and bfloat16 by the words of /proc/cpuinfo; None where they do not decide.

    On x86, bfloat16 needs units of its own; without them torch converts each number. AMX is 3 to 7 times as fast as
    float32. AMD's AVX512_BF16 is about twice as fast: 2.2 times for the probe's product and 1.9 times for MiniLM on an
    EPYC of family 25, model 17 (Zen 4). We could not measure Intel's AVX512_BF16
    without AMX (Cooper Lake). On ARM the unit alone does not decide: it depends on how torch was built.
    """
    if "amx_bf16" in cpuinfo or {"AuthenticAMD", "avx512_bf16"} <= set(cpuinfo):
        return "bfloat16"
    is_known = "sse2" in cpuinfo or "asimd" in cpuinfo
    return "float32" if is_known and not {"avx512_bf16", "bf16"} & set(cpuinfo) else None


def _probe_ms() -> tuple[float, float]:
    """Milliseconds of the product in float32 and in bfloat16: the minimum of several interleaved runs.

    Other work can only slow a run down, so the minimum is the least disturbed; medians on a busy machine chose bfloat16
    wrongly.
    """
    import torch

    with torch.inference_mode():
        rows, weight = torch.ones(PROBE_ROWS, PROBE_IN), torch.ones(PROBE_OUT, PROBE_IN)
        pairs = [(rows.to(dtype), weight.to(dtype)) for dtype in (torch.float32, torch.bfloat16)]
        times: tuple[list[float], list[float]] = ([], [])
        for repeat in range(PROBE_REPEATS + 1):
            for (left, right), taken in zip(pairs, times, strict=True):
                start = time.perf_counter()
                torch.nn.functional.linear(left, right)
                if repeat:  # the first round pays for start-up
                    taken.append(time.perf_counter() - start)
    return min(times[0]) * 1e3, min(times[1]) * 1e3


def _cpuinfo() -> frozenset[str]:
    """The words of Linux' description of the processor."""
    path = Path("/proc/cpuinfo")
    return frozenset(path.read_text().split()) if path.is_file() else frozenset()


def _processor() -> str:
    """A description of the CPU: 'AVX512, with avx512_bf16, 2 threads'."""
    import torch

    units = [flag for flag in ("amx_bf16", "avx512_bf16", "bf16") if flag in _cpuinfo()]
    with_units = f"with {', '.join(units)}" if units else "without bfloat16 units in its flags"
    return f"{torch.backends.cpu.get_cpu_capability()}, {with_units}, {torch.get_num_threads()} threads"
