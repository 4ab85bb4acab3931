"""`afterclick train`, killed with `kill -9`: the same command goes on to the same end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests import models
from tests.unit.test_train import trained

SCRIPT = """
import sys
from pathlib import Path
from tests.unit.test_train import settings_of, shop, training
from streams.commands.train import run
encoder, base, out = map(Path, sys.argv[1:])
run(shop(), settings_of(encoder), training(out, base=str(base), max_query_groups=200, epochs=2), to_json=True)
"""


def test_a_run_that_was_killed_goes_on_to_the_same_end(tmp_path: Path) -> None:
    base = models.packed(tmp_path / "base")
    command_line = [sys.executable, "-c", SCRIPT, str(models.encoder(tmp_path / "encoder")), str(base)]
    subprocess.run([*command_line, str(tmp_path / "whole")], check=True, capture_output=True)
    stopped = subprocess.Popen([*command_line, str(tmp_path / "stopped")], stdout=subprocess.DEVNULL)
    saved = tmp_path / "stopped" / "checkpoint" / "tuning.pt"
    deadline = time.monotonic() + 120
    while not saved.exists() and stopped.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    stopped.send_signal(signal.SIGKILL)
    assert stopped.wait() == -signal.SIGKILL, "it ended before it could be killed"
    subprocess.run([*command_line, str(tmp_path / "stopped")], check=True, capture_output=True)
    whole, resumed = trained(tmp_path / "whole"), trained(tmp_path / "stopped")
    assert resumed["model_curve"] == whole["model_curve"]
    assert resumed["validation_ndcg_at_10"] == whole["validation_ndcg_at_10"]
