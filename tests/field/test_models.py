"""A shop whose titles the encoder cannot read, and models that load and lie: what users, probes and logs are told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from ranker.version import version
from streams.settings import Settings
from streams.testing.worker_process import WorkerProcess, environment, worker
from tests import models
from tests.client import Client, until
from tests.unit.test_known_pairs import fill

TITLES = 200
PATIENCE_S = 60.0


def settings_with(settings: Settings, folder: Path) -> Settings:
    changed = {"model": str(folder), "device": "cpu", "follow_s": 0.2, "timeout_ms": 1_000}
    return settings.model_copy(update={"ranker": settings.ranker.model_copy(update=changed)})


def test_a_model_whose_scores_are_no_numbers_starts_no_worker_and_passes_no_doctor(
    settings: Settings, tmp_path: Path
) -> None:
    folder = fill(models.classifier(tmp_path / "broken"), float("nan"), "classifier")
    settings = settings_with(settings, folder)
    running = WorkerProcess(settings, "rank")
    try:
        assert running.process.wait(PATIENCE_S) == 2
    finally:
        running.kill()
    log = running.log.read_text(encoding="utf-8")
    assert "scores that are not finite" in log.splitlines()[-1]
    assert "Traceback" not in log
    doctor = subprocess.run(
        [sys.executable, "-m", "streams.cli", "doctor"],
        env=environment(settings) | {"COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert doctor.returncode != 0
    assert "scores that are not finite" in doctor.stdout


def test_titles_that_nobody_reads_are_told_and_a_model_that_lies_takes_no_place(
    settings: Settings, tmp_path: Path
) -> None:
    shop = models.packed(tmp_path / "shop")
    settings = settings_with(settings, shop)
    client, named = Client(settings), version(str(shop))
    with worker(settings, "all") as running:
        running.wait_ready()
        for number in range(TITLES):
            title = f"\u7ea2\u8272\u767b\u5c71\u978b {number}"  # red hiking boots
            client.produce("items", f"item-{number}", {"item_id": f"item-{number}", "title": title})
        client.flush()
        until(lambda: running.total("afterclick_catalogue_items") == TITLES)
        assert running.total("afterclick_text_tokens_total", reader="encoder", in_vocabulary="no") > 2 * TITLES
        until(lambda: running.total("afterclick_catalogue_unknown_tokens_ratio") > 0.5)
        assert running.log.read_text(encoding="utf-8").count("choose a model for your languages") == 1

        client.click("ann", "item-1")
        client.flush()
        assert until(lambda: client.cached("ann"))["model"] == named == f"shop@{named[-8:]}"
        wrong = fill(models.packed(tmp_path / "wrong"), float("nan"), "classifier")
        shutil.rmtree(shop)
        wrong.rename(shop)
        until(lambda: running.total("afterclick_model_swaps_total", model="shop", outcome="refused") == 1)
        client.click("bob", "item-2")
        client.flush()
        list_ = until(lambda: client.cached("bob"))
        assert (list_["model"], list_["degraded"]) == (named, None)
        assert str(tmp_path) not in running.get("/metrics")[1]
