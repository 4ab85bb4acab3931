"""`afterclick train`, killed with `kill -9`: the same command goes on to the same end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from streams.commands.train import run
from tests import models
from tests.unit.test_train import settings_of, shop, trained, training

SCRIPT = """
import sys
from pathlib import Path
from tests.field.test_killed_training import train
train(*map(Path, sys.argv[1:]))
"""


def train(encoder: Path, base: Path, out: Path) -> None:
    run(shop(), settings_of(encoder), training(out, base=str(base), max_query_groups=120, epochs=2), to_json=True)


def test_a_run_that_was_killed_goes_on_to_the_same_end(tmp_path: Path) -> None:
    encoder, base = models.encoder(tmp_path / "encoder"), models.packed(tmp_path / "base")
    command_line = [sys.executable, "-c", SCRIPT, str(encoder), str(base), str(tmp_path / "stopped")]
    stopped = subprocess.Popen(command_line, stdout=subprocess.DEVNULL)
    saved = tmp_path / "stopped" / "checkpoint" / "tuning.pt"
    deadline = time.monotonic() + 120
    while not saved.exists() and stopped.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    stopped.send_signal(signal.SIGKILL)
    assert stopped.wait() == -signal.SIGKILL, "it ended before it could be killed"
    for name in ("whole", "stopped"):
        train(encoder, base, tmp_path / name)
    whole, resumed = trained(tmp_path / "whole"), trained(tmp_path / "stopped")
    assert resumed["model_curve"] == whole["model_curve"]
    assert resumed["validation_ndcg_at_10"] == whole["validation_ndcg_at_10"]
