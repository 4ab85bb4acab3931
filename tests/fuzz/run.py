"""Fuzz every decoder, guided by coverage: `python -m tests.fuzz.run [RUNS]`; `make fuzz` runs 1,000,000.

Stops with a trace at the first input that crashes a decoder, hangs it for 10 s, or makes the process take 2 GB; that
input is then in the working directory as `crash-…`, `timeout-…` or `oom-…`. Coverage is of our Python: msgspec is
compiled. A script and not a test, for libFuzzer ends the process that it runs in.
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
LONGEST_BYTES = 4_096


def main() -> None:
    """The first byte of an input chooses the decoder."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    names = list(DECODERS)
    taken, accepted = Counter[str](), Counter[str]()
    began = time.monotonic()

    def take(data: bytes) -> None:
        if data:
            name = names[data[0] % len(names)]
            taken[name] += 1
            accepted[name] += DECODERS[name](data[1:])
        if taken.total() == runs - 1:
            sys.stdout.write(f"{runs} inputs in {time.monotonic() - began:.0f} s, none of which did harm:\n")
            for name in names:
                sys.stdout.write(f"{name:14} {taken[name]:8} taken, {accepted[name]:8} accepted, the others refused\n")
            sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder:
        for number, (name, inputs) in enumerate(sorted(good().items())):
            for place, value in enumerate(inputs):
                Path(folder, f"{number}-{place}").write_bytes(bytes([names.index(name)]) + value)
        limits = [f"-max_len={LONGEST_BYTES}", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=0"]
        atheris.Setup([sys.argv[0], f"-runs={runs}", "-verbosity=0", "-seed=7", *limits, folder], take)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
