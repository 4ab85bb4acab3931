"""A worker whose model is replaced while users click: each list is by one of the two, which explore and learn.

Both tiers serve the new folder: the state tier merges the candidates as it says. Both folders have the same space of
pictures, whose vectors the items bring.
"""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from ranker.features import NAMES, names
from ranker.fusion.head import FILE, describe, load_head
from ranker.recall.embedding_space import embedding_space
from ranker.spaces.adapter import Adapter
from ranker.version import version
from streams.settings import Settings
from streams.testing.worker_process import worker
from tests.client import ITEMS, Client, until
from tests.client import version as has_version
from tests.unit.test_fusion import folder

USERS = [f"user-{number}" for number in range(8)]
PAUSE_S = 0.02
DIM = 4
AXES = np.eye(DIM, dtype=np.float32)
SPACE = embedding_space("image")


def with_space(model: Path) -> None:
    """Give a folder a space of pictures, and a head that gets its features, too."""
    adapter = Adapter(np.zeros(DIM, np.float32), AXES, AXES[None], np.array([1], np.float32), 1.0, 10.0)
    SPACE(adapter).save(model / SPACE.file)
    read = load_head(model / FILE)
    more = len(names([SPACE])) - len(NAMES)  # type: ignore[list-item]  # the class has its columns, too
    replace(
        read,
        mean=np.append(read.mean, np.zeros(more, np.float32)),
        scale=np.append(read.scale, np.ones(more, np.float32)),
        linear=np.append(read.linear, np.zeros(more, np.float32)),
        hidden=np.concatenate([read.hidden, np.zeros((more, read.hidden.shape[1]), np.float32)]),
    ).save(model)
    file = model / "afterclick.json"
    described = json.loads(file.read_text(encoding="utf-8"))
    described["fusion"] = describe(names([SPACE]))  # type: ignore[list-item]
    file.write_text(json.dumps(described), encoding="utf-8")


def test_a_model_is_replaced_under_load_and_learns_from_feedback(settings: Settings, tmp_path: Path) -> None:
    base = settings.encoder.model
    one, other = folder(tmp_path / "one", base, seed=1), folder(tmp_path / "other", base, seed=2)
    description = json.loads((other / "afterclick.json").read_text(encoding="utf-8"))
    merge = {name: [1.0, 0.0] for name in ("co-visited", "nearest", "trending", "newest")}
    (other / "afterclick.json").write_text(json.dumps(description | {"merge": merge}), encoding="utf-8")
    with_space(one)
    with_space(other)
    shutil.copy(one / SPACE.file, other / SPACE.file)  # two saves may differ in the order of what they hold
    current, following = tmp_path / "current", tmp_path / "next"
    current.symlink_to(one)
    following.symlink_to(other)
    ranker = settings.ranker.model_copy(update={"model": str(current), "follow_s": 0.2, "explore": 0.05})
    candidates = settings.candidates.model_copy(update={"spaces": ("image:4",)})
    settings = settings.model_copy(update={"ranker": ranker, "candidates": candidates})
    client = Client(settings)
    before, enough, clicks = version(str(current)), threading.Event(), dict.fromkeys(USERS, 0)

    def click() -> None:
        while not enough.wait(PAUSE_S):
            for user_id in USERS[sum(clicks.values()) % len(USERS) :][:1]:
                client.click(user_id, ITEMS[clicks[user_id] % len(ITEMS)])
                clicks[user_id] += 1
        client.flush()

    with worker(settings, "all") as running:
        running.wait_ready()
        client.items()
        for number, item_id in enumerate(ITEMS):
            item = {"item_id": item_id, "title": item_id, "embeddings": {"image": AXES[number % DIM].tolist()}}
            client.produce("items", item_id, item)
        client.produce("items", "wrong", {"item_id": "wrong", "title": "wrong", "embeddings": {"image": [1, 2]}})
        client.flush()
        until(lambda: running.total("afterclick_catalogue_vectors", name="image") == len(ITEMS))
        until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS))
        clicking = threading.Thread(target=click)
        clicking.start()
        try:
            until(lambda: running.total("afterclick_lists_total", model=before) > 20)
            following.replace(current)
            after = version(str(current))
            until(lambda: running.total("afterclick_lists_total", model=after) > 20, 60)
        finally:
            enough.set()
            clicking.join()
        until(lambda: all(has_version(client, user_id, clicks[user_id]) for user_id in USERS))
        assert running.total("afterclick_model_swaps_total", outcome="served") == 1
        assert running.total("afterclick_recall_swaps_total", outcome="served") == 1
        requests = [value for key, value in client.consume("rank-requests") if key in USERS]
        best = [max(candidate["retrieval_score"] for candidate in request["candidates"]) for request in requests]
        assert best[0] < 0.1, "the fixed weights"
        assert best[-1] >= 1, "the merge of the new folder"
        for request in (requests[0], requests[-1]):
            assert any("nearest-image" in candidate["sources"] for candidate in request["candidates"])
        [letter] = [value for _, value in client.consume("dead-letters")]
        assert "embeddings.image: got 2 components, expected 4" in letter["error"]
        lists = [value for key, value in client.consume("recommendations") if key in USERS]
        assert {list_["model"] for list_ in lists} == {before, after}
        assert {list_["degraded"] for list_ in lists} == {None}, "no request went without a model"
        propensities = [[item["propensity"] for item in list_["items"]] for list_ in lists]
        assert {of_list[0] for of_list in propensities} == {1}
        assert all(0 < one < 1 for of_list in propensities for one in of_list[1:-1]), "both models explore"

        shown = client.cached(USERS[0])
        client.click(USERS[0], shown["items"][3]["item_id"], list_id=shown["list_id"])
        client.flush()
        until(lambda: running.total("afterclick_feedback_total", model=after) == 1)
        until(lambda: running.total("afterclick_feedback_loss_nats_total", model=after, head="live") > 0)
