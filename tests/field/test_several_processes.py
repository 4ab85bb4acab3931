"""`torchrun` with two processes on the CPU: the result of one process, one voice, one line if a process is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from ranker.evaluation.baselines import sasrec
from ranker.train import model_fit
from streams.cli import app
from tests import models
from tests.unit.test_train import shop, trained

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LETTERS = str.maketrans("0123456789", "abcdefghij")
"""The tiny models know no digits: items whose titles differ by a number alone would be ties, which rounding orders."""
LEARNING_RATE, STEPS = 2e-3, 40
"""A tiny model's."""
COMMANDS = f"""
from ranker.train import model_fit
model_fit.LEARNING_RATE = dict.fromkeys(model_fit.LEARNING_RATE, {LEARNING_RATE})
from ranker.evaluation.baselines import sasrec
sasrec.LEAST_STEPS = {STEPS}
from streams.cli import main
main()
"""


class Shop:
    """A small shop as files, and the command line over them, in this process or in two."""

    def __init__(self, folder: Path) -> None:
        log = shop()
        items = [msgspec.structs.replace(item, title=item.title.translate(LETTERS)) for item in log.items]
        (folder / "items.jsonl").write_bytes(b"".join(msgspec.json.encode(item) + b"\n" for item in items))
        clicks = [
            {
                "event_id": f"e{number}",
                "user_id": click.user,
                "item_id": click.item,
                "timestamp": click.time_ms + 10**12,
            }
            for number, click in enumerate(log.events)
        ]
        (folder / "clicks.jsonl").write_text("".join(json.dumps(click) + "\n" for click in clicks), encoding="utf-8")
        self._files = [f"--{name}={folder / name}.jsonl" for name in ("items", "clicks")]
        self._commands = folder / "commands.py"
        self._commands.write_text(COMMANDS, encoding="utf-8")
        self.environment = {
            "AFTERCLICK_ENCODER__MODEL": str(models.encoder(folder / "encoder")),
            "AFTERCLICK_ENCODER__DTYPE": "float32",
            "AFTERCLICK_RANKER__DTYPE": "float32",
            "AFTERCLICK_RANKER__DEVICE": "cpu",
            "AFTERCLICK_RANKER__MAX_CANDIDATES": "90",
            "AFTERCLICK_RANKER__MAX_PER_CATEGORY": "20",
            "AFTERCLICK_CANDIDATES__LIMIT": "90",
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path.cwd()),
        }

    def start_two(self, *arguments: str) -> subprocess.Popen[str]:
        command = [*TORCHRUN, str(self._commands), *arguments, *self._files, "--json"]
        pipe, environment = subprocess.PIPE, os.environ | self.environment
        return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, processes: int, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
        """What the command prints: one line of JSON, whatever the number of processes."""
        if processes == 1:
            app([*arguments, *self._files, "--json"], standalone_mode=False)
            out = capsys.readouterr().out
        else:
            two = self.start_two(*arguments)
            out, err = two.communicate(timeout=300)
            assert two.returncode == 0, err
        [line] = out.splitlines()
        printed: dict[str, Any] = json.loads(line)
        return printed


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def small_shop(files: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    for name, value in files.environment.items():
        monkeypatch.setenv(name, value)
    for kind in model_fit.LEARNING_RATE:
        monkeypatch.setitem(model_fit.LEARNING_RATE, kind, LEARNING_RATE)
    monkeypatch.setattr(sasrec, "LEAST_STEPS", STEPS)
    return files


def check_equal(one: Path, two: Path, file: str) -> None:
    """The same losses on the way, and the same best weights, to the precision of float32.

    Neither the bias of keys nor that of scores changes the order of a list: their gradients are rounding errors, which
    the optimiser makes steps of.
    """
    weights, others = (load_file(folder / file) for folder in (one, two))
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        if not name.endswith(("key.bias", "classifier.bias")):
            np.testing.assert_allclose(weight, others[name], atol=1e-4, err_msg=name)
    curve = trained(one)["model_curve"]
    assert abs(curve[-1][0] - curve[0][0]) > 0.01, "the steps change the losses"
    np.testing.assert_allclose(curve, trained(two)["model_curve"], atol=1e-4)
    for name, figure in trained(one)["validation_ndcg_at_10"].items():
        assert trained(two)["validation_ndcg_at_10"][name] == pytest.approx(figure, abs=0.01), name


def test_a_model_is_trained_as_in_one_process(
    small_shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = models.packed(tmp_path / "base")
    for processes, name in ((1, "one"), (2, "two")):
        small_shop.run(processes, capsys, *train(base, tmp_path / name, "--lora"))
    check_equal(tmp_path / "one", tmp_path / "two", "model.safetensors")


def train(base: Path, out: Path, *more: str) -> list[str]:
    return ["train", "--base", str(base), "--out", str(out), *more]


def test_a_student_learns_as_in_one_process(
    small_shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = models.packed(tmp_path / "teacher", hidden_size=64)
    for processes, name in ((1, "one"), (2, "two")):
        how = ["compress", str(teacher), "--sparsify", "2:4", "--query-groups", "100", "--out", str(tmp_path / name)]
        small_shop.run(processes, capsys, *how)
    check_equal(tmp_path / "one", tmp_path / "two", "sparse.safetensors")


def test_the_sequence_model_learns_as_in_one_process(small_shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["evaluate", "--protocol", "leave-one-out", "--systems", "sasrec", "--trials", "1", "--max-minutes", "60"]
    one, two = (small_shop.run(processes, capsys, *how)["systems"]["sasrec"] for processes in (1, 2))
    for name in ("ndcg_at_10", "mrr", "recall_at_100", "novelty_bits", "coverage"):
        assert two[name] == pytest.approx(one[name], rel=0.02), name


def test_a_process_that_is_killed_ends_all_with_one_line(small_shop: Shop, tmp_path: Path) -> None:
    run = small_shop.start_two(*train(models.packed(tmp_path / "base"), tmp_path / "out", "--epochs", "500"))
    deadline = time.monotonic() + 200
    while not (tmp_path / "out" / "checkpoint" / "tuning.pt").exists() and run.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process_of_rank(1, run.pid), signal.SIGKILL)
    out, err = run.communicate(timeout=60)
    assert run.returncode
    assert out == ""
    [line] = [line for line in err.splitlines() if line.startswith("afterclick: ")]
    assert line.startswith("afterclick: process 0 of 2: got ")
    assert line.endswith("start the same command again: it goes on from its checkpoint")


def process_of_rank(rank: int, launcher: int) -> int:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text(encoding="ascii").split()
    variable = f"\0RANK={rank}\0".encode()
    [pid] = [int(child) for child in children if variable in Path(f"/proc/{child}/environ").read_bytes()]
    return pid
