"""The vectors that items bring: what is rejected, what is kept, and what a space makes of items that have none."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import Mapping
from typing import Any
from unittest.mock import Mock

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.events.entries import item_key
from encoders.models.source import ModelUnsupported
from ranker.features import names
from ranker.recall.candidates import BUILT_IN
from ranker.recall.embedding_space import COLUMNS, embedding_space
from ranker.recall.trained import TrainedRecall
from ranker.spaces.adapter import Adapter
from streams.contracts import Click, Item, RankRequest
from streams.kafka.record_reader import RecordReader
from streams.receive.decode import receive
from streams.receive.message import BadMessage, Message
from streams.settings import CandidatesSettings, Settings, SettingsError, load
from streams.state import catalogue_metrics
from streams.state.decays import counts_of
from streams.state.sources import catalogue_of
from streams.state.tier import StateTier
from streams.state.users import Users
from tests.unit.test_state_worker import World

NOW, DIM, TEXT_DIM, ITEMS = 1_700_000_000_000, 4, 3, 12
AXES = np.eye(DIM, dtype=np.float32)
SPACE = embedding_space("image")


def half(*values: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}e", *values)).decode()


def record(embeddings: Any, item_id: str = "i1") -> Message:
    value = msgspec.json.encode({"item_id": item_id, "title": "A lamp", "embeddings": embeddings})
    return Message("items", 0, 0, item_id.encode(), value)


def received(embeddings: Any) -> Mapping[str, Any]:
    item = receive(record(embeddings), NOW)
    assert isinstance(item, Item)
    return item.embeddings


@pytest.mark.parametrize("sent", [[3, 4], [3e300, 4e300], half(3, 4), half(0.6, 0.8)])
def test_a_vector_is_kept_at_unit_length_in_two_bytes_a_component(sent: Any) -> None:
    kept = received({"image": sent, "sound": None})
    assert kept == {"image": struct.pack("<2e", 0.6, 0.8)}


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ({"image": [0, 0]}, "a vector of length 0"),
        ({"image": [1e308, 1e308, 1e308, 1e308]}, "a vector of length inf"),
        ({"image": half(math.nan, 1)}, "a vector of length nan"),
        ({"image": "AAAA"}, "got 3 bytes"),
        ({"image": []}, "length >= 1"),
        ({"image": ["a"]}, "Expected `float`"),
        ({"Image": [1]}, "matching regex"),
        ({f"space{number}": [1] for number in range(9)}, "length <= 8"),
    ],
)
def test_what_is_no_vector_is_rejected_in_words(sent: Any, problem: str) -> None:
    with pytest.raises(BadMessage, match="embeddings") as caught:
        received(sent)
    assert problem in str(caught.value)


def read(reader: RecordReader, embeddings: Any) -> Item:
    message = record(embeddings)
    sent = Mock(topic="items", partition=0, offset=0, key=message.key, value=message.value, headers=(), timestamp=NOW)
    [one] = reader.read(sent)
    assert isinstance(one.decoded, Item)
    return one.decoded


@pytest.mark.parametrize(("spaces", "first"), [("image", [1, 0, 0]), ("image:3", None)])
def test_the_first_vector_or_the_setting_fixes_the_dimension(spaces: str, first: Any) -> None:
    reader = RecordReader(Settings(candidates=CandidatesSettings(spaces=spaces)))
    if first:
        assert read(reader, {"image": first}).embeddings
    with pytest.raises(BadMessage, match=r"embeddings.image: got 2 components, expected 3"):
        read(reader, {"image": [1, 0]})
    assert read(reader, {"image": [0, 0, 5], "sound": [1]}).embeddings.keys() == {"image"}
    assert reader.embeddings.ignored == {"sound"}
    assert read(reader, {}).embeddings == {}


def test_without_the_setting_vectors_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = RecordReader(Settings())
    assert read(reader, {"image": [1, 0, 0]}) == read(RecordReader(Settings()), {})
    monkeypatch.setenv("AFTERCLICK_CANDIDATES__SPACES", "image:0")
    with pytest.raises(SettingsError, match="image:0"):
        load(None)


def adapter() -> Adapter:
    return Adapter(np.zeros(DIM, np.float32), AXES, AXES[None], np.array([1], np.float32), 1.0, 10.0)


def tier(vectors: Mapping[int, Any], *clicked: int, spaces: str = f"image:{DIM}") -> StateTier:
    """A tier with items, some of which bring a vector, and a user who clicked some of them."""
    candidates = CandidatesSettings(features="always", spaces=spaces)
    of_tier = Settings(candidates=candidates)
    catalogue = catalogue_of(of_tier, TEXT_DIM)
    trained = [TrainedRecall((SPACE(adapter()),), needs_features=True)]
    made = StateTier(of_tier, Users({}, TEXT_DIM), catalogue, counts_of(of_tier), BUILT_IN, trained)
    for number in range(ITEMS):
        brought = {"image": vectors[number].tolist()} if number in vectors else {}
        item = Item(item_id=f"i{number}", title=f"thing {number}", embeddings=brought)
        made.put_item(item, np.eye(TEXT_DIM, dtype=np.float32)[number % TEXT_DIM], NOW)
    for number in clicked:
        made.accept("u", [Click(event_id=f"e{number}", user_id="u", item_id=f"i{number}", timestamp=NOW)])
    return made


def rows(request: RankRequest) -> dict[str, dict[str, float]]:
    assert request.features is not None
    values = np.frombuffer(request.features.values, "<f2").reshape(len(request.candidates), -1)
    columns = names([SPACE(adapter())])
    return {
        one.item_id: dict(zip(columns, row.tolist(), strict=True))
        for one, row in zip(request.candidates, values, strict=True)
    }


def test_the_nearest_pictures_are_found_and_an_item_is_placed_as_it_comes_and_goes() -> None:
    made = tier({number: AXES[number % DIM] for number in range(ITEMS)}, 0)
    of_item = rows(made.request("u", None, None))
    assert {name for name, row in of_item.items() if row["space_image_nearest"] > 0.9} == {"i4", "i8"}
    found = {c.item_id for c in made.request("u", None, None).candidates if "nearest-image" in c.sources}
    assert {"i4", "i8"} <= found

    made.put_item(Item(item_id="i4", title="thing 4"), np.eye(TEXT_DIM, dtype=np.float32)[1], NOW)
    request = made.request("u", None, None)
    assert {name: value for name, value in rows(request)["i4"].items() if name.startswith("space_image")} == {
        f"space_image_{column}": 0.0 for column in COLUMNS
    }
    assert "nearest-image" not in {c.item_id: c.sources for c in request.candidates}["i4"]
    made.put_item(Item(item_id="i4", title="thing 4", embeddings={"image": AXES[0].tolist()}), AXES[1, :TEXT_DIM], NOW)
    assert rows(made.request("u", None, None))["i4"]["space_image_nearest"] == 1


@settings(max_examples=15)
@given(deleted=st.sets(st.integers(0, ITEMS - 1)), seed=st.integers(0, 9))
def test_a_deleted_vector_changes_what_is_known_of_that_item_alone(deleted: set[int], seed: int) -> None:
    drawn = np.random.default_rng(seed).normal(size=(ITEMS, DIM)).astype(np.float32)
    clicked = (ITEMS - 1, ITEMS - 2)
    deleted -= set(clicked)
    whole, without = (
        rows(tier({n: drawn[n] for n in range(ITEMS) if n not in gone}, *clicked).request("u", None, None))
        for gone in (set(), deleted)
    )
    places = {name for name in names([SPACE(adapter())]) if name.endswith("_place")}
    for item_id, row in whole.items():
        number = int(item_id.removeprefix("i"))
        for name, value in row.items():
            of_space = name.startswith("space_image") and name != "space_image_in_history"
            if number in deleted and of_space:
                assert without[item_id][name] == 0
            elif name not in places:
                assert without[item_id][name] == value


@settings(max_examples=15)
@given(deleted=st.sets(st.integers(0, ITEMS - 2)), seed=st.integers(0, 9))
def test_an_item_without_a_vector_is_the_candidate_that_it_is_without_the_space(deleted: set[int], seed: int) -> None:
    drawn = np.random.default_rng(seed).normal(size=(ITEMS, DIM)).astype(np.float32)
    both = [tier({n: drawn[n] for n in range(ITEMS) if n not in gone}, ITEMS - 1) for gone in (deleted, range(ITEMS))]
    requests = [made.request("u", None, None) for made in both]
    scores, ablated = ({one.item_id: one.retrieval_score for one in request.candidates} for request in requests)
    for item_id in {f"i{number}" for number in deleted} & set(ablated):
        before = sum(score > scores[item_id] for score in scores.values())
        assert before <= sum(score >= ablated[item_id] for score in ablated.values()) - 1


def test_an_ablated_space_is_one_that_knows_no_item() -> None:
    made = tier({number: AXES[number % DIM] for number in range(ITEMS)}, 0)
    none = tier({}, 0)
    [whole] = made.requests.trained
    made.requests.trained[:] = [whole.without("nearest-image")]
    ablated = made.request("u", None, None)
    assert rows(ablated) == rows(none.request("u", None, None))
    assert ablated.features is not None
    assert ablated.features.version == whole.version


def test_a_model_with_a_space_needs_the_setting() -> None:
    with pytest.raises(ModelUnsupported, match="add image:4 to AFTERCLICK_CANDIDATES__SPACES"):
        tier({}, spaces="sound")


def test_a_vector_of_another_length_than_the_models_is_none() -> None:
    made = tier({0: np.ones(DIM + 1, np.float32)}, spaces="image")
    assert not made.catalogue.space(made.requests.trained[0].learnt[0]).row(0).any()  # type: ignore[arg-type]
    assert item_key("i0") in made.catalogue


def test_a_restart_reads_the_vectors_from_the_topic_and_another_dimension_is_a_dead_letter() -> None:
    """Workers read the topic of items whole; the one that owns the partition writes the dead letter."""
    sent = {name: msgspec.json.encode({"item_id": name, "title": name, "embeddings": {"image": vector}})
            for name, vector in {"a": [3, 4], "b": half(1, 0), "c": [1, 2, 3]}.items()}  # fmt: skip
    found = []
    for _ in range(2):
        world = World(settings=Settings(candidates=CandidatesSettings(spaces=("image",))), items=())
        records: Any = [world.event("items", name, value).message for name, value in sent.items()]

        async def start(world: World = world, records: Any = records) -> None:
            await world.worker.put_items(records)
            await world.work([world.event("items", name, value) for name, value in sent.items()])

        asyncio.run(start())
        found.append({item.item_id: item.embeddings for item in world.tier.catalogue})
        [letter] = world.broker.of("dead-letters")
        assert "embeddings.image: got 3 components, expected 2" in json.loads(letter.value or b"")["error"]
    assert found[0] == found[1]
    assert found[0] == {"a": (("image", struct.pack("<2e", 0.6, 0.8)),), "b": (("image", struct.pack("<2e", 1, 0)),)}
    assert catalogue_metrics.catalogue_vectors.labels("image")._value.get() >= 2
