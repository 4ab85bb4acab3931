"""A fleet of workers under a supervisor that restarts each worker that ends, as systemd or Kubernetes does.

Knows no fault.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from streams.settings import Settings
from streams.testing.worker_process import WorkerFailed, WorkerProcess

RESTART_AFTER_S = 0.5
SUPERVISE_EVERY_S = 0.1
RSS_EVERY_S = 2.0

Role = Literal["state", "rank", "all"]


@dataclass
class Member:
    """One worker of the fleet: its settings stay the same, its process ends and starts again.

    Attributes
    ----------
    name : str
    role : {"state", "rank", "all"}
    settings : Settings
    control : Path
        The control file of `worker_script`.
    worker : WorkerProcess, optional
        None while no process runs.
    wanted : bool
        Whether the supervisor keeps it running.
    starts : int
    max_rss : int
        The largest memory seen, in bytes.
    expected_end : bool
        Whether the harness itself ended the present process.
    """

    name: str
    role: Role
    settings: Settings
    control: Path
    worker: WorkerProcess | None = None
    wanted: bool = True
    starts: int = 0
    max_rss: int = 0
    expected_end: bool = False

    @property
    def data_dir(self) -> Path:
        return self.settings.tables.data_dir

    def control_process(self, **control: object) -> None:
        """Break the clock or the model of the process, as `worker_script` says; without arguments, mend both."""
        self.control.write_text(json.dumps(control))

    def send(self, number: int) -> None:
        """Send a signal to the process, if there is one."""
        if self.worker is not None:
            self.worker.process.send_signal(number)

    def limit_files(self, size: int) -> None:
        """Let no file of the process grow beyond so many bytes: to the process, the disk is full."""
        if self.worker is not None:
            resource.prlimit(self.worker.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def total(self, metric: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels; 0 while no process runs."""
        try:
            return self.worker.total(metric, **labels) if self.worker else 0.0
        except WorkerFailed:
            return 0.0


@dataclass
class UnexpectedEnd:
    """The end of a process that the harness did not cause."""

    member: str
    status: int
    log_end: str


@dataclass
class Fleet:
    """The members, and a thread that supervises them as long as the context is entered.

    Attributes
    ----------
    members : list of Member
    ended : list of UnexpectedEnd
    """

    members: list[Member]
    ended: list[UnexpectedEnd] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def __enter__(self) -> Fleet:
        for member in self.members:
            self._start(member)
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._supervisor.join()
        for member in self.members:
            if member.worker is not None:
                member.send(signal.SIGCONT)
                member.worker.kill()

    def running(self, role: str) -> list[Member]:
        """Return the wanted members with a process, of this role or, with "any", of every role."""
        return [m for m in self.members if m.wanted and m.worker is not None and role in (m.role, "any")]

    def kill(self, member: Member, delete_folder: bool = False) -> None:
        """Send SIGKILL (kill -9); the supervisor restarts the member."""
        with self._lock:
            member.expected_end = True
            if member.worker is not None:
                member.worker.kill()
            if delete_folder:
                shutil.rmtree(member.data_dir, ignore_errors=True)

    def terminate(self, member: Member) -> None:
        """Send SIGTERM; the supervisor restarts the member."""
        member.expected_end = True
        member.send(signal.SIGTERM)

    def add(self, member: Member) -> None:
        """Start a member that is not running, and supervise it."""
        with self._lock:
            member.wanted = True
            if member not in self.members:
                self.members.append(member)
            self._start(member)

    def remove(self, member: Member) -> None:
        """Send SIGTERM; the supervisor does not restart the member."""
        with self._lock:
            member.wanted = False
            self.terminate(member)

    def all_ready(self) -> bool:
        """Return whether every wanted member has a ready tier."""
        return all(m.total("afterclick_worker_ready") > 0 for m in self.members if m.wanted)

    def _start(self, member: Member) -> None:
        member.starts += 1
        member.expected_end = False
        script = (sys.executable, "-m", "tests.faults.worker_script", str(member.control), "worker")
        member.worker = WorkerProcess(member.settings, member.role, script)

    def _supervise(self) -> None:
        measured_s = 0.0
        while not self._stopping.wait(SUPERVISE_EVERY_S):
            with self._lock:
                for member in self.members:
                    self._restart_if_ended(member)
                if time.monotonic() - measured_s > RSS_EVERY_S:
                    measured_s = time.monotonic()
                    for member in self.members:
                        member.max_rss = max(member.max_rss, rss(member))

    def _restart_if_ended(self, member: Member) -> None:
        if member.worker is None or (status := member.worker.process.poll()) is None:
            return
        if not member.expected_end:
            self.ended.append(UnexpectedEnd(member.name, status, member.worker.log_end(12)))
        member.worker = None
        if member.wanted:
            time.sleep(RESTART_AFTER_S)
            self._start(member)


def rss(member: Member) -> int:
    """Return the resident memory of a member's process in bytes, without its model process; 0 if there is none."""
    if member.worker is None:
        return 0
    try:
        status = Path(f"/proc/{member.worker.process.pid}/status").read_text()
    except OSError:
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmRSS")]
    return int(lines[0][1]) * 1024 if lines else 0
