"""The HTTP interface beside a worker: a child process, started again whenever it ends.

It shares nothing with the worker but the settings, so neither its load nor its end delays an event. It ends with the
worker, however the worker ends: the worker holds the other end of its standard input. Knows nothing of HTTP.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from prometheus_client import Counter

from streams.settings import Settings, SettingsError

logger = logging.getLogger(__name__)

PACKAGES = ("httptools", "starlette", "uvicorn")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""The pause before a restart doubles each time; chosen by us: quick after a mishap, and cheap if it lasts."""
STEADY_S = 60.0
"""A process that ran for this long begins with the first pause again; chosen by us."""
KILL_AFTER_S = 5.0
"""At the worker's end: from SIGTERM to SIGKILL; chosen by us: its requests take less."""

restarts = Counter(
    "afterclick_http_restarts_total", "Ends of a worker's HTTP process that made the worker start it again"
)


def check(settings: Settings) -> None:
    """Check what can be checked before a process starts.

    Raises
    ------
    SettingsError
        A token is missing, or a package is not installed.
    """
    settings.http.check_tokens()
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise SettingsError(f"{missing[0]}: got no such package, expected it for HTTP; pip install 'afterclick[http]'")


def serve_command(config: Path | None, web: bool = False) -> list[str]:
    """Return the command of a process that has the worker's settings, by its environment and its file.

    Parameters
    ----------
    config : Path or None
        The worker's file of settings.
    web : bool
        Serve the live page too.
    """
    options = [*(["--web"] if web else []), *(["--config", str(config)] if config else [])]
    return [sys.executable, "-m", "streams.cli", "serve", "--end-with-stdin", *options]


class HttpProcess:
    """A context in which the process runs.

    Parameters
    ----------
    command : sequence of str
        What to run; it ends when its standard input does.
    first_pause_s : float
        Before the first restart.
    """

    def __init__(self, command: Sequence[str], first_pause_s: float = FIRST_PAUSE_S) -> None:
        self._command = command
        self._first_pause_s = first_pause_s
        self._ending = threading.Event()
        self._starting = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, name="http", daemon=True)

    def __enter__(self) -> HttpProcess:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        with self._starting:
            process = self._process
        if process is not None:
            process.terminate()
        self._thread.join(KILL_AFTER_S)
        if process is not None and self._thread.is_alive():
            process.kill()
            self._thread.join()

    def _supervise(self) -> None:
        pause_s = self._first_pause_s
        while not self._ending.is_set():
            started_s = time.monotonic()
            why = self._run()
            if self._ending.is_set():
                return
            if time.monotonic() - started_s > STEADY_S:
                pause_s = self._first_pause_s
            restarts.inc()
            logger.error("the HTTP process %s; the worker goes on, and starts it again in %g s", why, pause_s)
            self._ending.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _run(self) -> str:
        """Run the process to its end; return how it ended."""
        with self._starting:
            if self._ending.is_set():
                return "was not started"
            try:
                # In a session of its own: Ctrl-C in the terminal stops the worker only, which then stops the process.
                process = subprocess.Popen(self._command, stdin=subprocess.PIPE, start_new_session=True)
            except OSError as error:
                return f"could not start ({error})"
            self._process = process
        with process:
            return f"ended with status {process.wait()}"
