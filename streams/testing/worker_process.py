"""A worker as its users run it: `afterclick worker` in a process of its own, observed by its metrics and its log."""

from __future__ import annotations

import json
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
from streams.settings.group import pairs_text

COMMAND = (sys.executable, "-m", "streams.cli", "worker")
TIERS_OF_ROLE = {"all": 2, "state": 1, "rank": 1}
POLL_EVERY_S = 0.05
KILL_AFTER_S = 5.0
"""Seconds from the end of the grace period to SIGKILL."""


class WorkerFailed(AfterclickError):
    """The worker ended, or a metric did not reach its goal in time; the message has the end of the worker's log."""


class WorkerProcess:
    """A running worker. The constructor starts the process; `worker` also stops it.

    Parameters
    ----------
    settings : Settings
        The worker gets them as environment variables; settings in this process' environment are not passed on.
    role : {"all", "state", "rank"}
        The tiers that it runs.
    command : sequence of str, optional
        Another program than `afterclick worker`; gets `--role ROLE` appended.

    Attributes
    ----------
    process : subprocess.Popen
    log : Path
        The file with the worker's output, beside `settings.tables.data_dir`.
    """

    def __init__(self, settings: Settings, role: str = "all", command: Sequence[str] | None = None) -> None:
        self.log = settings.tables.data_dir.parent / f"worker-{role}-{time.monotonic_ns()}.log"
        self._tiers = TIERS_OF_ROLE[role]
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
                start_new_session=True,  # Ctrl-C in the terminal stops this process only, which then stops the worker
            )

    def get(self, path: str) -> tuple[int, str]:
        """Send an HTTP GET request to the worker's metrics port.

        Parameters
        ----------
        path : str
            For example `/readyz`.

        Returns
        -------
        tuple of int and str
            The status and the body; 0 and an empty body while the worker does not respond.

        Raises
        ------
        WorkerFailed
            The process has ended.
        """
        if (code := self.process.poll()) is not None:
            raise WorkerFailed(f"the worker: got exit code {code}, expected it to run; {self.log_end()}")
        try:
            with self._http.open(self._url + path, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def samples(self, metric: str | None = None) -> list[Sample]:
        """Return the samples of `/metrics`, or of one metric; an empty list while the worker does not respond.

        To write and read one takes a hundredth of the processor time, which counts for who looks again and again.
        """
        status, text = self.get(f"/metrics?name[]={metric}" if metric else "/metrics")
        if status != 200:
            return []
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, metric: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels; 0 if there are none."""
        return sum(s.value for s in self.samples(metric) if s.name == metric and labels.items() <= s.labels.items())

    def wait(
        self,
        metric: str,
        goal: float,
        timeout_s: float = 90.0,
        advance: Callable[[float], None] = lambda _: None,
        **labels: str,
    ) -> None:
        """Wait until the sum of a metric's samples that have these labels reaches `goal`.

        Parameters
        ----------
        metric : str
        goal : float
        timeout_s : float
        advance : callable
            Called with the present sum after each look.

        Raises
        ------
        WorkerFailed
            The process has ended, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while (total := self.total(metric, **labels)) < goal:
            if time.monotonic() > deadline:
                raise WorkerFailed(
                    f"{metric}: got {total:g} after {timeout_s:g} s, expected {goal:g}; is the machine busy? "
                    f"{self.log_end()}"
                )
            advance(total)
            time.sleep(POLL_EVERY_S)
        advance(goal)

    def wait_ready(self, timeout_s: float = 90.0, advance: Callable[[float], None] = lambda _: None) -> None:
        """Wait until all tiers of the worker are ready; parameters and errors as of `wait`."""
        self.wait("afterclick_worker_ready", self._tiers, timeout_s, advance)

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit code.

        Sends SIGKILL and returns -9 if the process has not ended `KILL_AFTER_S` after its grace period; also sends
        SIGKILL if the wait is interrupted.
        """
        self.process.terminate()
        try:
            return self.process.wait(self._grace_s + KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            return -9
        finally:
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL and wait for the end: for the worker, the machine has lost power."""
        self.process.kill()
        self.process.wait()

    def log_end(self, lines: int = 25) -> str:
        """Return the last lines of the worker's log, for an error message."""
        end = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return "its log ends:\n" + "\n".join(end)


@contextmanager
def worker(settings: Settings, role: str = "all", command: Sequence[str] | None = None) -> Iterator[WorkerProcess]:
    """Run a worker; stop it at the end of the context. An error in the context prints the end of the worker's log.

    Parameters
    ----------
    settings : Settings
        With a data folder and a metrics port that no other worker uses.
    role : {"all", "state", "rank"}
        The tiers that it runs.
    command : sequence of str, optional
        See `WorkerProcess`.

    Examples
    --------
    A test of a backend, without any server installed::

        from pathlib import Path
        from tempfile import TemporaryDirectory

        from streams.settings import KafkaSettings, MetricsSettings, RedisSettings, Settings, TablesSettings
        from streams.testing.embedded import PARTITIONS, EmbeddedKafka, EmbeddedRedis, free_port
        from streams.testing.worker_process import worker

        with EmbeddedKafka() as kafka, EmbeddedRedis() as redis, TemporaryDirectory() as folder:
            settings = Settings(
                kafka=KafkaSettings(
                    bootstrap_servers=kafka.bootstrap_servers, partitions=PARTITIONS, create_topics=False
                ),
                redis=RedisSettings(url=redis.url),
                tables=TablesSettings(data_dir=Path(folder) / "data"),
                metrics=MetricsSettings(port=free_port()),
            )
            with worker(settings) as process:
                process.wait_ready()
                # produce items and clicks to Kafka here, and read lists from Kafka or Redis
                assert process.get("/readyz")[0] == 200
    """
    process = WorkerProcess(settings, role, command)
    try:
        yield process
    except (WorkerFailed, KeyboardInterrupt):
        raise  # its message has the end of the log; Ctrl-C is no failure
    except BaseException:
        sys.stderr.write(f"the worker: {process.log_end()}\n")
        raise
    finally:
        if process.process.poll() is None:
            process.stop()


def environment(settings: Settings) -> dict[str, str]:
    """Return this process' environment with Afterclick's settings replaced by `settings`."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return inherited | dict(_variables(settings.model_dump(), PREFIX))


def _variables(group: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in group.items():
        if isinstance(value, dict) and all(isinstance(number, float) for number in value.values()):
            yield prefix + name.upper(), pairs_text(value)
        elif isinstance(value, dict):
            yield from _variables(value, f"{prefix}{name.upper()}__")
        elif isinstance(value, tuple) and value and isinstance(value[0], dict):
            yield prefix + name.upper(), json.dumps(value)
        elif value not in (None, ()):  # an empty list cannot be written; it is the default
            plain = value.get_secret_value() if isinstance(value, SecretStr) else value
            yield prefix + name.upper(), ",".join(plain) if isinstance(plain, tuple) else str(plain)
