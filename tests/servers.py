"""Real workers for the tests: `afterclick worker` in a process of its own, ended when left.

Knows no test; the integration tests use it. Real servers for them are in `streams.embedded`.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from streams.bench.worker import environment as environment
from streams.settings import Settings

WORKER = (sys.executable, "-m", "streams.cli", "worker")
ROOT = Path(__file__).parent.parent


def tail(log: Path, lines: int = 40) -> str:
    """Read the last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _end(process: subprocess.Popen[bytes], grace_s: float = 10) -> int:
    process.terminate()
    try:
        return process.wait(timeout=grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class Worker:
    """A running `afterclick worker`; `log` is the file with its output."""

    def __init__(self, settings: Settings, role: str, log: Path) -> None:
        self.log = log
        self._metrics = f"http://127.0.0.1:{settings.metrics.port}/metrics"
        self._grace_s = settings.grace_s
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*WORKER, "--role", role],
                env=environment(settings),
                cwd=ROOT,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    def samples(self) -> list[Sample]:
        """Scrape the worker; nothing when it does not listen."""
        try:
            with urllib.request.urlopen(self._metrics, timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return []
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def wait_ready(self, timeout_s: float = 90) -> None:
        """Wait until the gauge `afterclick_worker_ready` is 1 for each tier of the worker."""
        deadline = time.monotonic() + timeout_s
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"worker: got exit code {self.process.poll()}, expected afterclick_worker_ready 1 within "
                    f"{timeout_s:g} s; its log ends:\n{tail(self.log)}"
                )
            time.sleep(0.1)

    def _ready(self) -> bool:
        tiers = [sample.value for sample in self.samples() if sample.name == "afterclick_worker_ready"]
        return bool(tiers) and all(value == 1 for value in tiers)

    def terminate(self) -> int:
        """Send SIGTERM, wait for the end, give the exit code (-9 if it had to be killed after its grace)."""
        return _end(self.process, self._grace_s + 10)

    def kill(self) -> None:
        """Send SIGKILL, as a machine that loses power would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def worker(settings: Settings, role: str) -> Iterator[Worker]:
    """Run `afterclick worker --role ROLE` with these settings; its log lies beside `tables.data_dir`.

    The log's end is printed when the test fails, and the process is ended in any case.
    """
    running = Worker(settings, role, settings.tables.data_dir.parent / f"worker-{role}-{time.monotonic_ns()}.log")
    try:
        yield running
    except BaseException:
        print(f"--- the worker's log ends ({running.log}):\n{tail(running.log)}")
        raise
    finally:
        if running.process.poll() is None:
            running.terminate()
