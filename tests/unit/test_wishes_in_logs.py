"""Recorded wishes in a log: they hold for the lists asked for after them, as in a worker, until they are taken back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from encoders.text.encoder import TextEncoder
from ranker.evaluation.log_order import ordered
from ranker.evaluation.protocols import next_basket
from streams.datasets.event_log import EventLog, read_dataset, read_files
from streams.datasets.file_messages import topic_files
from streams.offline.query_group_builder import QueryGroupBuilder
from streams.offline.split_pipeline import SplitPipeline
from streams.settings import EncoderSettings, Settings
from tests import models

START_MS, HOUR_MS = 1_767_225_600_000, 3_600_000
ITEMS = [f"{material} {kind}" for material in ("wool", "steel", "linen") for kind in ("mug", "rug", "bag", "hat")]
WISH = {"event_id": "w1", "user_id": "ann", "timestamp": START_MS, "text": "no wool"}
TAKEN_BACK = {"event_id": "w2", "user_id": "ann", "timestamp": START_MS + 1, "revoke": "w1"}


def log_of(folder: Path, *wishes: dict[str, Any]) -> EventLog:
    """Two visits of two users; all that is left to find are other items."""
    clicks = [
        {"event_id": f"{user}{n}", "user_id": user, "item_id": ITEMS[4 + n], "timestamp": START_MS + n * HOUR_MS}
        for user in ("ann", "bob")
        for n in (1, 2)
    ]
    items = [{"item_id": title, "title": title} for title in ITEMS]
    paths = {}
    recorded: dict[str, Sequence[dict[str, Any]]] = {"items": items, "clicks": clicks, "preferences": wishes}
    for topic, records in recorded.items():
        paths[topic] = folder / f"{topic}.jsonl"
        paths[topic].write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return read_files(topic_files(paths))


def settings_of(folder: Path) -> Settings:
    return Settings(encoder=EncoderSettings(model=str(models.encoder(folder)), device="cpu", dtype="float32"))


def listed(log: EventLog, settings: Settings, user: str) -> set[str]:
    """The titles in the list of a user's last visit."""
    split = next_basket(ordered(log.events, 1))
    encoder = TextEncoder(settings.encoder.model, "cpu", "float32")
    pipeline = SplitPipeline(settings, encoder, log.items, split)
    requests = pipeline.all_requests(leaky=False, progress=lambda *_: None)
    ranked = pipeline.rank(requests, None, lambda *_: None).lists
    [index] = [number for number, case in enumerate(split.cases) if case.user == user]
    return {log.items[item].title for item in ranked[index].ranked}


WOOL = {title for title in ITEMS if title.startswith("wool")}


@pytest.mark.parametrize(
    ("wishes", "has_wool"),
    [
        ([], True),
        ([WISH], False),
        ([WISH, TAKEN_BACK], True),
        ([WISH | {"timestamp": START_MS + 3 * HOUR_MS}], True),
        ([WISH | {"expires_at": START_MS + HOUR_MS}], True),
    ],
)
def test_a_wish_holds_from_its_time_until_it_ends_or_is_taken_back(
    tmp_path: Path, wishes: list[dict[str, Any]], has_wool: bool
) -> None:
    log, settings = log_of(tmp_path, *wishes), settings_of(tmp_path / "encoder")
    assert bool(WOOL & listed(log, settings, "ann")) == has_wool
    assert WOOL & listed(log, settings, "bob")


def test_no_candidate_that_a_wish_keeps_out_is_learnt_from(tmp_path: Path) -> None:
    settings, found = settings_of(tmp_path / "encoder"), []
    for wishes in ((), (WISH,)):
        log = log_of(tmp_path, *wishes)
        in_order = ordered(log.events, 1)
        cases = [case for case in next_basket(in_order).cases if case.user == "ann"]
        encoder = TextEncoder(settings.encoder.model, "cpu", "float32")
        builder = QueryGroupBuilder(settings, encoder, log.items)
        groups = builder.build(in_order, cases, float("inf"), lambda *_: None).groups
        found.append({log.items[item].title for item in groups.candidates[0].tolist() if item >= 0})
    assert WOOL & found[0]
    assert not WOOL & found[1]
    assert log_of(tmp_path).events.digest() != log_of(tmp_path, WISH).events.digest()  # type: ignore[attr-defined]


def test_a_wish_that_is_not_understood_is_left_out_and_counted(tmp_path: Path) -> None:
    log = log_of(tmp_path, WISH | {"text": "surprise me with whatever"}, WISH)
    assert log.left_out == {"preferences: not understood": 1}
    assert [sign.wish.text for sign in log.events.signs if sign.wish] == ["no wool"]  # type: ignore[attr-defined]


def test_users_of_the_generated_shop_wish_away_what_they_do_not_choose() -> None:
    log, without = (read_dataset(name, Path("3")) for name in ("wish-shop", "search-shop"))
    hated = {sign.user: sign.wish.text.split()[1] for sign in log.events.signs if sign.wish}  # type: ignore[attr-defined]
    titles = {item.item_id: item.title for item in log.items}
    assert len(hated) == len({event.user for event in log.events})
    assert not any(hated[event.user] in titles[event.item] for event in log.events)
    assert list(log.events) == list(without.events)
