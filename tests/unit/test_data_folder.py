"""A worker locks its folder: another process gets an error, also after a fork, and death releases the lock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.settings import SettingsError
from streams.worker import data_folder
from streams.worker.data_folder import claim

CLAIM = """
import os, signal, sys
from pathlib import Path
from streams.worker.data_folder import claim
claim(Path(sys.argv[1]))
if "fork" in sys.argv and os.fork() == 0:
    signal.pause()
print("mine", flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    yield
    while data_folder._held:
        data_folder._held.pop().close()


def another(folder: Path, *how: str) -> subprocess.Popen[str]:
    """A process that has the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(folder), *how], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout
    assert process.stdout.readline() == "mine\n"
    return process


@pytest.mark.parametrize("how", [[], ["fork"]])
def test_a_folder_is_refused_until_the_worker_that_uses_it_is_dead(tmp_path: Path, how: list[str]) -> None:
    folder = tmp_path / "shop" / "data"
    owner = another(folder, *how)
    try:
        for _ in range(2):
            with pytest.raises(SettingsError) as caught:
                claim(folder)
            assert str(caught.value) == (
                f"AFTERCLICK_TABLES__DATA_DIR: got {folder}, which a running worker uses (process {owner.pid}), "
                "expected a folder of its own for each worker with RocksDB; set another one, or end that worker"
            )
        claim(tmp_path / "another")
        owner.kill()  # its forked child lives on, as one that writes the search graph may for a moment
        owner.wait()
        claim(folder)
        assert (folder / data_folder.FILE).read_text() == str(os.getpid())
    finally:
        os.killpg(owner.pid, 9) if how else owner.kill()
        assert owner.stdout
        owner.stdout.close()
        owner.wait()


def test_a_folder_that_cannot_be_created_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"DATA_DIR: got .*file/data \(Not a directory\), expected a folder"):
        claim(tmp_path / "file" / "data")
