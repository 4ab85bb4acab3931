"""A worker as its users run it: `afterclick worker` in a process of its own, known by its settings and its metrics.

Called by the demo, the benchmarks and the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import SecretStr

from encoders.errors import AfterclickError
from streams.settings import PREFIX, Settings

COMMAND = (sys.executable, "-m", "streams.cli", "worker")
TIERS = {"all": 2, "state": 1, "rank": 1}
LOOK_EVERY_S = 0.05
PATIENCE_S = 5.0  # after the grace period, before force


class WorkerFailed(AfterclickError):
    """The worker ended, or did not do what was waited for; the message has the end of its log."""


class WorkerProcess:
    """A running worker; `log` is the file with its output, beside its `tables.data_dir`."""

    def __init__(self, settings: Settings, role: str = "all", command: Sequence[str] | None = None) -> None:
        self.log = settings.tables.data_dir.parent / f"worker-{role}-{time.monotonic_ns()}.log"
        self._tiers = TIERS[role]
        self._grace_s = settings.grace_s
        self._url = f"http://127.0.0.1:{settings.metrics.port}"
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: no proxy
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*(command or COMMAND), "--role", role],
                env=environment(settings),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for who started it and then ends it
            )

    def get(self, path: str) -> tuple[int, str]:
        """Ask it over HTTP: status and text, or 0 and none while it does not answer.

        Raises
        ------
        WorkerFailed
            The process has ended.
        """
        if (code := self.process.poll()) is not None:
            raise WorkerFailed(f"the worker: got exit code {code}, expected it to run; {self.log_end()}")
        try:
            with self._http.open(self._url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def samples(self) -> list[Sample]:
        """Scrape `/metrics`; nothing while the worker does not answer."""
        status, text = self.get("/metrics")
        if status != 200:
            return []
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, metric: str, **labels: str) -> float:
        """Add up the samples of a metric that have these labels."""
        return sum(s.value for s in self.samples() if s.name == metric and labels.items() <= s.labels.items())

    def wait(
        self, metric: str, goal: float, timeout_s: float = 90.0, advance: Callable[[float], None] = lambda _: None
    ) -> None:
        """Wait until a metric's sum reaches `goal`; `advance` is told how far it is."""
        deadline = time.monotonic() + timeout_s
        while (now := self.total(metric)) < goal:
            if time.monotonic() > deadline:
                raise WorkerFailed(
                    f"{metric}: got {now:g} after {timeout_s:g} s, expected {goal:g}; is the machine busy? "
                    f"{self.log_end()}"
                )
            advance(now)
            time.sleep(LOOK_EVERY_S)
        advance(goal)

    def wait_ready(self, timeout_s: float = 90.0, advance: Callable[[float], None] = lambda _: None) -> None:
        """Wait until all its tiers are ready."""
        self.wait("afterclick_worker_ready", self._tiers, timeout_s, advance)

    def stop(self) -> int:
        """Send SIGTERM and wait; the exit code. By force (-9) when its grace is over, or if we are interrupted."""
        self.process.terminate()
        try:
            return self.process.wait(self._grace_s + PATIENCE_S)
        except subprocess.TimeoutExpired:
            return -9
        finally:
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL, as a machine that loses power would."""
        self.process.kill()
        self.process.wait()

    def log_end(self, lines: int = 25) -> str:
        """The last lines of its log."""
        end = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return "its log ends:\n" + "\n".join(end)


@contextmanager
def worker(settings: Settings, role: str = "all") -> Iterator[WorkerProcess]:
    """Run a worker; it ends when left, and its log's end is printed if that is by an error."""
    running = WorkerProcess(settings, role)
    try:
        yield running
    except WorkerFailed:
        raise  # has it
    except BaseException:
        sys.stderr.write(f"the worker: {running.log_end()}\n")
        raise
    finally:
        if running.process.poll() is None:
            running.stop()


def environment(settings: Settings) -> dict[str, str]:
    """Give this process' environment with its settings replaced by these."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return inherited | dict(_variables(settings.model_dump(), PREFIX))


def _variables(group: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in group.items():
        if isinstance(value, dict):
            yield from _variables(value, f"{prefix}{name.upper()}__")
        elif value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else value
            yield prefix + name.upper(), ",".join(plain) if isinstance(plain, tuple) else str(plain)
