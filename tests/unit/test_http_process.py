"""The HTTP process beside a worker: started again, ended with the worker, however that ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.settings import HttpSettings, Settings, SettingsError
from streams.worker import http_process
from streams.worker.http_process import HttpProcess
from tests.client import until

CHILD = "import sys, pathlib; log = pathlib.Path(sys.argv[1]).open('a'); print('begin', file=log, flush=True); "
ENDS_WITH_STDIN = CHILD + "sys.stdin.read(); print('end', file=log, flush=True)"
PARENT = (
    "import sys, time; from streams.worker.http_process import HttpProcess\n"
    "with HttpProcess(sys.argv[1:]): time.sleep(60)"
)


def lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def test_a_process_that_ends_is_started_again_with_longer_and_longer_pauses(tmp_path: Path) -> None:
    log, before = tmp_path / "log", http_process.restarts._value.get()
    started_s = time.monotonic()
    with HttpProcess([sys.executable, "-c", CHILD + "sys.exit(3)", str(log)], first_pause_s=0.1):
        until(lambda: len(lines(log)) == 3)
        assert time.monotonic() - started_s > 0.1 + 0.2
    assert http_process.restarts._value.get() - before in (2, 3)


def test_a_process_that_cannot_start_harms_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with HttpProcess([str(tmp_path / "missing")]):
        until(lambda: caplog.messages)
    assert caplog.messages[0].startswith("the HTTP process could not start (")
    assert "the worker goes on" in caplog.messages[0]


@pytest.mark.parametrize("code", [ENDS_WITH_STDIN, CHILD + "import time; time.sleep(60)"])
def test_it_ends_with_the_worker(tmp_path: Path, code: str) -> None:
    log = tmp_path / "log"
    with HttpProcess([sys.executable, "-c", code, str(log)]) as process:
        until(lambda: lines(log))
        child = process._process
    assert child is not None
    assert child.returncode is not None


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_process, "KILL_AFTER_S", 0.2)
    log = tmp_path / "log"
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + CHILD + "import time; time.sleep(60)"
    with HttpProcess([sys.executable, "-c", deaf, str(log)]) as process:
        until(lambda: lines(log))
        child = process._process
    assert child is not None
    assert child.returncode == -9


def test_it_ends_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", PARENT, sys.executable, "-c", ENDS_WITH_STDIN, str(log)]
    with subprocess.Popen(command) as worker:
        until(lambda: lines(log))
        worker.kill()
    assert until(lambda: lines(log)[1:]) == ["end"]


def test_what_is_wrong_before_the_start_stops_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"HTTP__HOST: got '0\.0\.0\.0' without"):
        http_process.check(Settings(http=HttpSettings(host="0.0.0.0")))
    monkeypatch.setattr(http_process, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'afterclick\[http\]'"):
        http_process.check(Settings())
