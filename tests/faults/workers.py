"""A fleet of workers under a supervisor that starts again whatever ends, as systemd or Kubernetes would.

Knows no fault; `faults` breaks the members, `campaign` makes them.
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
LOOK_EVERY_S = 0.1
RSS_EVERY_S = 2.0


Role = Literal["state", "rank", "all"]


@dataclass
class Member:
    """One place in the fleet: its settings stay, its process comes and goes."""

    name: str
    role: Role
    settings: Settings
    control: Path
    worker: WorkerProcess | None = None
    wanted: bool = True
    stopped: bool = False
    starts: int = 0
    most_rss: int = 0
    expected_end: bool = False

    @property
    def data_dir(self) -> Path:
        return self.settings.tables.data_dir

    def tell(self, **control: object) -> None:
        """What its clock and its model shall do from now on."""
        self.control.write_text(json.dumps(control))

    def send(self, number: int) -> None:
        if self.worker is not None:
            self.worker.process.send_signal(number)

    def limit_files(self, size: int) -> None:
        """No file of the running process may grow beyond this size: a full disk, as a program sees it."""
        if self.worker is not None:
            resource.prlimit(self.worker.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def total(self, metric: str, **labels: str) -> float:
        """A metric's sum; 0 while it does not run."""
        try:
            return self.worker.total(metric, **labels) if self.worker else 0.0
        except WorkerFailed:
            return 0.0


@dataclass
class Ended:
    """A process that ended without having been told to."""

    member: str
    status: int
    log_end: str


@dataclass
class Fleet:
    """The members and their supervisor; a context."""

    members: list[Member]
    ended: list[Ended] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def __enter__(self) -> Fleet:
        for member in self.members:
            self._start(member)
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._supervisor.join()
        for member in self.members:
            if member.worker is not None:
                member.send(signal.SIGCONT)
                member.worker.kill()

    def running(self, role: str) -> list[Member]:
        return [m for m in self.members if m.wanted and m.worker is not None and role in (m.role, "any")]

    def kill(self, member: Member, and_its_folder: bool = False) -> None:
        """kill -9; the supervisor starts it again."""
        with self._lock:
            member.expected_end = True
            if member.worker is not None:
                member.worker.kill()
            if and_its_folder:
                shutil.rmtree(member.data_dir, ignore_errors=True)

    def terminate(self, member: Member) -> None:
        """SIGTERM; the supervisor starts it again."""
        member.expected_end = True
        member.send(signal.SIGTERM)

    def add(self, member: Member) -> None:
        with self._lock:
            member.wanted = True
            if member not in self.members:
                self.members.append(member)
            self._start(member)

    def remove(self, member: Member) -> None:
        """SIGTERM, and it stays away."""
        with self._lock:
            member.wanted = False
            self.terminate(member)

    def all_ready(self) -> bool:
        return all(m.total("afterclick_worker_ready") > 0 for m in self.members if m.wanted)

    def _start(self, member: Member) -> None:
        member.starts += 1
        member.expected_end = False
        script = (sys.executable, "-m", "tests.faults.worker_script", str(member.control), "worker")
        member.worker = WorkerProcess(member.settings, member.role, script)

    def _supervise(self) -> None:
        looked_s = 0.0
        while not self._over.wait(LOOK_EVERY_S):
            with self._lock:
                for member in self.members:
                    self._look_after(member)
                if time.monotonic() - looked_s > RSS_EVERY_S:
                    looked_s = time.monotonic()
                    for member in self.members:
                        member.most_rss = max(member.most_rss, rss(member))

    def _look_after(self, member: Member) -> None:
        if member.worker is None or (status := member.worker.process.poll()) is None:
            return
        if not member.expected_end:
            self.ended.append(Ended(member.name, status, member.worker.log_end(12)))
        member.worker = None
        if member.wanted:
            time.sleep(RESTART_AFTER_S)
            self._start(member)


def rss(member: Member) -> int:
    """Bytes of memory of a member's process, without its model's."""
    if member.worker is None:
        return 0
    try:
        status = Path(f"/proc/{member.worker.process.pid}/status").read_text()
    except OSError:
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmRSS")]
    return int(lines[0][1]) * 1024 if lines else 0
