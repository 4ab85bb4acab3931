"""The models' processes are counted while they run, and what they have used stays counted when they end."""

from __future__ import annotations

import os
import subprocess
import sys
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry

from streams.models.process_cost import ProcessCost
from streams.rank.serving import Serving
from streams.settings import Settings, WishesSettings
from streams.worker import state_app

BUSY = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"


def test_the_counter_keeps_what_a_process_used_that_has_ended() -> None:
    pids = {os.getpid()}
    registry = CollectorRegistry()
    registry.register(ProcessCost(lambda: pids))

    def shown(metric: str) -> float:
        return registry.get_sample_value(f"afterclick_models_{metric}") or 0.0

    alone_s, alone_bytes = shown("cpu_seconds_total"), shown("resident_memory_bytes")
    assert alone_s > 0
    assert alone_bytes > 1e6
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        pids.add(child.pid)
        both_s, both_bytes = shown("cpu_seconds_total"), shown("resident_memory_bytes")
        child.communicate(b"\n")
    assert both_s >= alone_s + 0.15
    assert both_bytes > alone_bytes
    assert shown("cpu_seconds_total") >= both_s
    pids.remove(child.pid)
    assert shown("cpu_seconds_total") >= both_s
    assert shown("resident_memory_bytes") < both_bytes + 1e6


def test_the_process_of_the_wishes_model_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class OfProcess:
        def __init__(self, *_: object) -> None: ...

        def pid(self) -> int:
            return 4_711

    monkeypatch.setattr(state_app, "TextModel", OfProcess)
    serving = Serving(None, None)
    try:
        without = serving.pids()
        for model in (None, "a-model"):
            state_app._of_wishes(Settings(wishes=WishesSettings(model=model)), Mock(), serving)
        assert serving.pids() - without == {4_711}
    finally:
        serving.close()
