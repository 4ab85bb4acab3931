"""The knowledge graph in a state tier: entities, triples, reasons by paths, and what a model's folder knows of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.events.entries import item_key
from encoders.models.source import ModelUnsupported
from ranker.evaluation.extra import PackageMissing
from ranker.features import NAMES
from ranker.knowledge.graph import NO_NODE, KnowledgeGraph
from ranker.knowledge.space import KnowledgeSpace
from ranker.load import load_recall
from ranker.recall.candidates import BUILT_IN
from ranker.recall.catalogue import Catalogue
from ranker.recall.learnt_knowledge import LearntKnowledge
from ranker.select import select
from ranker.train.learnt_knowledge import check_installed, relation_weights
from streams.client import MessageRefused
from streams.client.messages import keyed
from streams.contracts import Candidate, Click, HistoryEvent, Item, PathStep, RankRequest, Triple
from streams.datasets.event_log import read_files
from streams.datasets.field_options import FieldOptions
from streams.datasets.file_messages import topic_files
from streams.kafka.record_reader import RecordReader
from streams.receive.decode import receive
from streams.receive.message import BadMessage, Message, Tombstone
from streams.settings import CandidatesSettings, RankerSettings, Settings
from streams.state import knowledge_metrics
from streams.state.decays import counts_of
from streams.state.knowledge_feed import KnowledgeFeed
from streams.state.tier import StateTier
from streams.state.users import Users
from tests.unit.test_schema_registry import record

NOW = 1_700_000_000_000
DIM = 8


def tier(model: str = "none") -> StateTier:
    """Seven films without a word in common."""
    settings = Settings(ranker=RankerSettings(model=model), candidates=CandidatesSettings(features="always"))
    made = StateTier(settings, Users({}, DIM), Catalogue(DIM), counts_of(settings), BUILT_IN)
    for number in range(DIM - 1):
        put(made, number)
    return made


def put(made: StateTier, number: int, **fields: Any) -> None:
    item = Item(item_id=f"film-{number}", title=f"Film {number}", **fields)
    made.put_item(item, np.eye(DIM, dtype=np.float32)[number], NOW)


def click(made: StateTier, *numbers: int) -> None:
    clicks = [
        Click(event_id=f"e{number}", user_id="ann", item_id=f"film-{number}", timestamp=NOW + step)
        for step, number in enumerate(numbers)
    ]
    made.accept("ann", clicks)


def reasons(request: RankRequest) -> dict[str, str]:
    selected = select(request.candidates, [0.0] * len(request.candidates), request.history, 10, 10).items
    return {request.candidates[one.position].item_id: one.reason for one in selected}


def test_triples_and_entities_lead_to_items_and_to_reasons_until_they_are_deleted() -> None:
    made = tier()
    graph = made.catalogue.knowledge
    for triple in (
        ("film-0", "directed_by", "p1"),
        ("film-1", "directed_by", "p1"),
        ("p1", "name", "Agnes Varda"),
        ("film-2", "sequel_of", "film-0"),
        ("p1", "born_in", "Brussels"),
        ("film-3", "set_in", "Brussels"),
    ):
        graph.put(*triple)
    put(made, 4, entities=["Mars"])
    put(made, 5, entities=["Mars"])
    click(made, 4, 0)
    told = reasons(made.request("ann", None, None))
    assert told["film-1"] == "Also directed by Agnes Varda, like Film 0"
    assert told["film-2"] == "Sequel of Film 0"
    assert told["film-3"] == "Linked with Film 0 by Agnes Varda and Brussels"
    assert told["film-5"] == "Also about Mars, like Film 4"
    assert "Film" not in told["film-6"]
    linked = [c.item_id for c in made.request("ann", None, None).candidates if "knowledge" in c.sources]
    assert linked[0] == "film-2"
    assert {"film-1", "film-3", "film-5"} <= set(linked)
    put(made, 5, entities=["Venus"])
    graph.delete("film-2", "sequel_of", "film-0")
    made.delete_item("film-1")
    linked = [c.item_id for c in made.request("ann", None, None).candidates if "knowledge" in c.sources]
    assert {"film-1", "film-2", "film-5"}.isdisjoint(linked)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([PathStep(relation="has_part")], "Because you viewed Lamp (has part)"),
        (
            [PathStep(relation="designed", to="Eames", inverse=True), PathStep(relation="designed")],
            "Eames: designed this, like Lamp",
        ),
        ([PathStep(relation="by", to="Eames"), PathStep(relation="taught", inverse=True)], "Linked with Lamp by Eames"),
        ([PathStep(relation="by", to="A\nB" * 60), PathStep(relation="by", inverse=True)], None),
    ],
)
def test_a_path_is_told_in_one_line(path: list[PathStep], expected: str | None) -> None:
    history = [HistoryEvent(item_id="lamp", type="click", timestamp=0, title="Lamp")]
    candidate = Candidate(item_id="chair", text="Chair", because="lamp", path=path)
    [selected] = select([candidate], [1.0], history, 1, 1).items
    assert "\n" not in selected.reason
    assert len(selected.reason) < 130
    assert expected in (None, selected.reason)
    other = [HistoryEvent(item_id="x", type="click", timestamp=0, title="X")]
    [of_another] = select([candidate], [1.0], other, 1, 1).items
    assert of_another.reason == "Picked for you", "no reason names what the history does not have"


TRIPLE = {"head": "a", "relation": "by", "tail": "b"}


def message(value: Any, key: str) -> Message:
    return Message("knowledge", 0, 0, key.encode(), None if value is None else json.dumps(value).encode())


def test_a_triple_has_the_key_by_which_it_is_deleted() -> None:
    assert receive(message(TRIPLE, "a\tby\tb"), NOW) == Triple(head="a", relation="by", tail="b")
    assert receive(message(None, "a\tby\tb"), NOW) == Tombstone("a\tby\tb")
    assert receive(message(TRIPLE | {"tail": 7}, "a\tby\t7"), NOW) == Triple(head="a", relation="by", tail="7")
    for value, key, why in (
        (TRIPLE, "a", "head, relation and tail with tabs"),
        (None, "a", "head, relation and tail with tabs"),
        (None, "a\t\tb", "head, relation and tail with tabs"),
        (TRIPLE | {"tail": "a"}, "a\tby\ta", "the head itself"),
        (TRIPLE | {"tail": "\u00e9" * 200}, "a\tby\t" + "\u00e9" * 200, "400 bytes"),
    ):
        with pytest.raises(BadMessage, match=why):
            receive(message(value, key), NOW)


def test_a_client_sends_a_triple_under_its_key() -> None:
    sent = keyed(Triple(**TRIPLE))
    assert (sent.topic, sent.key) == ("knowledge", b"a\tby\tb")
    with pytest.raises(MessageRefused, match="the head itself"):
        keyed(Triple(head="a", relation="by", tail="a"))


def test_the_feed_counts_each_record_and_says_when_the_graph_is_full() -> None:
    graph = KnowledgeGraph(lambda key: NO_NODE, max_triples=1)
    feed = KnowledgeFeed(graph, RecordReader(Settings()))
    triple, other = b'{"head":"a","relation":"by","tail":"b"}', b'{"head":"a","relation":"by","tail":"c"}'
    records = [(b"a\tby\tb", triple), (b"a\tby\tb", triple), (b"a\tby\tc", other), (b"x", triple)]
    counted = knowledge_metrics.records
    before = {name: counted.labels(name)._value.get() for name in ("new", "unchanged", "full", "deleted", "unknown")}
    asyncio.run(feed.put([record(value, "knowledge", key) for key, value in records]))
    assert "raise AFTERCLICK_CANDIDATES__MAX_TRIPLES" in feed.notes()[0]
    asyncio.run(feed.put([record(None, "knowledge", key) for key in (b"a\tby\tb", b"a\tby\tc")]))
    assert feed.notes() == []
    assert {name: counted.labels(name)._value.get() - value for name, value in before.items()} == dict.fromkeys(
        before, 1
    )


def test_the_relation_that_leads_to_what_was_chosen_is_the_one_that_tells() -> None:
    rng = np.random.default_rng(1)
    graph = KnowledgeGraph(lambda key: NO_NODE)
    for number in range(200):
        graph.put(f"film-{number}", "directed_by", f"director-{number // 10}")
        graph.put(f"film-{number}", "made_in", f"country-{rng.integers(5)}")
    nodes = graph.find(item_key(f"film-{number}") for number in range(200))
    directors = rng.integers(0, 20, 300)
    histories = [nodes[10 * director + rng.choice(9, 3, replace=False)] for director in directors]
    weights = relation_weights(graph, histories, nodes[10 * directors + 9])
    assert dict(zip(graph.relations, weights.tolist(), strict=True)) == {"": 0, "directed_by": 1, "made_in": 0}
    assert not relation_weights(graph, histories, nodes[rng.integers(0, 200, 300)]).any()


def test_training_on_a_graph_says_at_once_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr("ranker.train.learnt_knowledge.LIBRARY", "no_such_package")
    with pytest.raises(PackageMissing, match=r"pip install 'afterclick\[train\]'"):
        check_installed()


def space(weight: float = 1.0) -> KnowledgeSpace:
    """Of a relation that is a step along the second axis, from films 0 and 1 to a person."""
    keys = np.array([item_key(name) for name in ("film-0", "film-1", "p1")], np.uint64)
    vectors = np.array([[1, 0], [0, 1], [1, 0]], np.float16)
    order = np.argsort(keys)
    weights, translations = np.array([weight], np.float32), np.array([[0, 1]], np.float32)
    return KnowledgeSpace(["by"], weights, translations, keys[order], vectors[order])


def folder(at: Path, knowledge: KnowledgeSpace) -> Path:
    at.mkdir()
    (at / "afterclick.json").write_text('{"base": "none"}', encoding="utf-8")
    LearntKnowledge(knowledge).save(at / LearntKnowledge.file)
    return at


def test_a_new_node_has_its_place_at_once_and_only_relations_that_tell_are_followed(tmp_path: Path) -> None:
    made = tier(str(folder(tmp_path / "model", space())))
    graph = made.catalogue.knowledge
    graph.put("film-0", "by", "p1")
    graph.put("film-3", "by", "p1")
    graph.put("film-4", "seen_with", "film-0")
    click(made, 0)
    request = made.request("ann", None, None)
    assert request.features is not None
    rows = np.frombuffer(request.features.values, "<f2").reshape(len(request.candidates), -1)[:, len(NAMES) + 1 :]
    of_film = {candidate.item_id: row for candidate, row in zip(request.candidates, rows, strict=True)}
    # film-3 belongs where a step along the relation leads to the person: at (1, -1)
    expected = [1, 1, 0, np.log2(1 / 2 / 2 + 2**-16) + 16, 0, *[np.sqrt(0.5)] * 3]
    assert of_film["film-3"].tolist() == pytest.approx(expected, abs=0.01)
    assert of_film["film-4"].tolist() == [1, *[0] * 7]
    assert not of_film["film-5"].any()
    sources = {candidate.item_id: candidate.sources for candidate in request.candidates}
    assert ("learnt-knowledge" in sources["film-3"], "learnt-knowledge" in sources["film-4"]) == (True, False)
    assert reasons(request)["film-4"] != "Because you viewed Film 0 (seen with)"


@pytest.mark.parametrize("wrong", [None, "weights"])
def test_a_damaged_file_is_refused(tmp_path: Path, wrong: str | None) -> None:
    model = folder(tmp_path / "model", space(weight=2.0 if wrong else 1.0))
    file = model / LearntKnowledge.file
    if wrong is None:
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ModelUnsupported, match=r"knowledge.safetensors: got (no|a) space of a knowledge graph"):
        load_recall(str(model))


def test_files_of_triples_are_read_in_the_contracts_shape_and_in_another(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\nf1,Film\n", encoding="utf-8")
    (tmp_path / "clicks.csv").write_text(f"user_id,item_id,timestamp\nu1,f1,{NOW}\n", encoding="utf-8")
    (tmp_path / "own.csv").write_text("head,relation,tail\nf1,by,p1\nf1,in,p2\nf1,by,f1\n", encoding="utf-8")
    (tmp_path / "other.csv").write_text("subject,predicate,object\nf1,by,p1\n", encoding="utf-8")
    paths = {"items": tmp_path / "items.csv", "clicks": tmp_path / "clicks.csv"}
    log = read_files(topic_files({**paths, "knowledge": tmp_path / "own.csv"}))
    assert log.triples == [Triple(head="f1", relation="by", tail="p1"), Triple(head="f1", relation="in", tail="p2")]
    assert sum(log.left_out.values()) == 1
    options = FieldOptions(fields=("head=subject", "relation=predicate", "tail=object"))
    log = read_files(topic_files({**paths, "knowledge": tmp_path / "other.csv"}, options))
    assert log.triples == [Triple(head="f1", relation="by", tail="p1")]
