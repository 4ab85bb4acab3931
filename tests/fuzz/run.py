"""Fuzz every decoder, guided by coverage: `python -m tests.fuzz.run [RUNS]`; `make fuzz` runs 1,000,000.

Stops with a trace at the first input that crashes a decoder, hangs it for 10 s, or raises the memory of the process to
2 GB. That input is then in the working directory as `crash-…`, `timeout-…` or `oom-…`. Coverage is of this
repository's Python only, because msgspec is compiled. This is a script because libFuzzer ends its process.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["streams", "encoders", "ranker"], enable_loader_override=False):
    from tests.fuzz.decoders import DECODERS, good

RUNS = 1_000_000
MAX_BYTES = 4_096


def main() -> None:
    """Fuzz all decoders; the first byte of an input chooses the decoder."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    names = list(DECODERS)
    taken, accepted = Counter[str](), Counter[str]()
    begin_s = time.monotonic()

    def take(data: bytes) -> None:
        if data:
            name = names[data[0] % len(names)]
            taken[name] += 1
            accepted[name] += DECODERS[name](data[1:])
        if taken.total() == runs - 1:
            sys.stdout.write(f"{runs} inputs in {time.monotonic() - begin_s:.0f} s, no failure:\n")
            for name in names:
                sys.stdout.write(f"{name:14} {taken[name]:8} taken, {accepted[name]:8} accepted, the others refused\n")
            sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder:
        for number, (name, inputs) in enumerate(sorted(good().items())):
            for index, value in enumerate(inputs):
                Path(folder, f"{number}-{index}").write_bytes(bytes([names.index(name)]) + value)
        limits = [f"-max_len={MAX_BYTES}", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=0"]
        atheris.Setup([sys.argv[0], f"-runs={runs}", "-verbosity=0", "-seed=7", *limits, folder], take)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
