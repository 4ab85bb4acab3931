"""A message that does not fit its topic is cut and counted, without an endless loop; one that cannot be cut waits."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka.errors import MessageSizeTooLargeError

from ranker import features
from ranker.score import FeatureSet
from streams.contracts import (
    MAX_REQUEST_BYTES,
    Candidate,
    DeadLetter,
    Features,
    HistoryEvent,
    RankRequest,
    Reason,
    Recommendations,
    RecommendedItem,
)
from streams.kafka import reliable_producer
from streams.kafka.message_size import (
    list_bytes,
    outgoing_letter,
    outgoing_list,
    outgoing_request,
    request_bytes,
)
from streams.kafka.outgoing import BROKERS_LARGEST, OVERHEAD_BYTES, Outgoing
from streams.kafka.reliable_producer import ReliableProducer
from streams.settings import CandidatesSettings, InterestSettings, RankerSettings, Settings


def request(candidates: int = 100, text: str = "t", categories: int = 1, history: int = 50) -> RankRequest:
    path = [f"{'c' * 240}{number}" for number in range(categories)]
    event = HistoryEvent(item_id="i" * 256, type="click", timestamp=1, title="T", categories=path)
    rows = np.arange(candidates * len(features.NAMES), dtype=np.float16).reshape(candidates, -1)
    return RankRequest(
        request_id="r",
        user_id="ann",
        as_of=1,
        history=[event] * history,
        candidates=[
            Candidate(item_id=f"i{number}", text=text, retrieval_score=float(-number % 7), categories=path)
            for number in range(candidates)
        ],
        features=Features(schema=features.SCHEMA, values=rows.tobytes(), version="v"),
    )


def features_of(made: RankRequest) -> features.Features:
    assert made.features
    read = features.read(
        made.features.schema,
        made.features.version,
        made.features.values,
        len(made.candidates),
        FeatureSet(features.NAMES, "v"),
    )
    assert read is not None
    return read


def cut(outgoing: Outgoing, most: int) -> Outgoing:
    assert outgoing.smaller is not None
    smaller = outgoing.smaller(most)
    assert smaller.topic == outgoing.topic
    assert smaller.size <= most
    return smaller


def test_with_default_settings_our_messages_fit_kafkas_default() -> None:
    settings = Settings()
    assert request_bytes(settings) + OVERHEAD_BYTES <= BROKERS_LARGEST
    assert list_bytes(settings) + OVERHEAD_BYTES <= BROKERS_LARGEST


def test_our_decoder_takes_our_largest_request() -> None:
    largest = Settings(candidates=CandidatesSettings(limit=5_000), interest=InterestSettings(history=50))
    assert request_bytes(largest) <= MAX_REQUEST_BYTES


def test_the_longest_list_fits_the_requested_topic_size() -> None:
    worst = RecommendedItem(
        item_id="\x01" * 256,
        rank=1_000,
        score=-0.12345678901234567,
        sources=["co-visited", "nearest", "trending", "newest", "knowledge", "learnt-knowledge"],
        reason=Reason(text="Linked with , by  and " + "🙂" * 300, evidence=["\x01" * 256]),
    )
    list_ = Recommendations(
        list_id="l" * 256,
        user_id="\x01" * 256,
        as_of=1,
        generated_at=2,
        state_version=3,
        model="m" * 256,
        trigger=None,
        degraded=None,
        items=[worst] * 1_000,
    )
    asked = list_bytes(Settings(ranker=RankerSettings(list_size=1_000)))
    assert outgoing_list("t", list_.user_id, msgspec.json.encode(list_), 0).size <= asked


def test_a_request_first_loses_fields_that_ranking_does_not_read() -> None:
    whole = outgoing_request("t", request(categories=64))
    assert whole.size > 1 << 20
    smaller = msgspec.json.decode(cut(whole, 1 << 20).value or b"", type=RankRequest)
    leaf = request(categories=64).history[0].categories[-1:]
    assert all(event.categories == leaf for event in smaller.history)
    assert all(candidate.categories == leaf for candidate in smaller.candidates)
    assert [one.text for one in smaller.candidates] == ["t"] * 100
    assert len(smaller.history) == 50


def test_a_request_then_loses_ends_of_texts_then_candidates_with_their_features() -> None:
    long = request(candidates=1_000, text="🙂" * 2_000)
    shorter = msgspec.json.decode(cut(outgoing_request("t", long), 5 << 20).value or b"", type=RankRequest)
    assert len(shorter.candidates) == 1_000
    assert {len(one.text) for one in shorter.candidates} == {1_000}
    fewer = msgspec.json.decode(cut(outgoing_request("t", long), 300_000).value or b"", type=RankRequest)
    assert len(fewer.candidates) in (125, 250)
    numbers = [int(one.item_id[1:]) for one in fewer.candidates]
    assert numbers == sorted(numbers)
    assert min(one.retrieval_score for one in fewer.candidates) >= 5, "the best by their own order"
    kept, given = features_of(fewer), features_of(long)
    assert np.array_equal(kept, given[numbers])


@pytest.mark.parametrize("payload", [b"", b"x" * 10, b"x" * 5_000_000, None])
@pytest.mark.parametrize("key", [None, b"", b"k" * 256, b"k" * 3_000_000])
@pytest.mark.parametrize("error", ["short", "long" * 500_000])
@pytest.mark.parametrize("most", [20_000, 1 << 20])
def test_a_cut_dead_letter_has_the_payloads_beginning_and_whole_size(
    payload: bytes | None, key: bytes | None, error: str, most: int
) -> None:
    letter = DeadLetter(topic="clicks", partition=1, offset=2, error=error, payload=payload, key=key)
    whole = outgoing_letter("dead-letters", letter)
    if whole.size <= most:
        return
    got = msgspec.json.decode(cut(whole, most).value or b"", type=DeadLetter)
    if payload is None or got.payload is None:
        assert got.payload is payload is None
    else:
        assert payload.startswith(got.payload)
        assert (got.payload_bytes is None) == (got.payload == payload)
        assert got.payload_bytes in (None, len(payload))
        assert got.payload == payload or cut(whole, most).size > most - 16, "as much as there is room for"
    assert (got.key_bytes is None) == (got.key == key)
    assert (got.topic, got.partition, got.offset) == ("clicks", 1, 2)
    again = msgspec.json.decode(cut(cut(whole, most), 15_000).value or b"", type=DeadLetter)
    assert again.payload_bytes in (None, len(payload or b"")), "cut twice, it still tells the size of all"


def test_a_dead_letter_that_fits_is_unchanged() -> None:
    letter = DeadLetter(topic="clicks", partition=1, offset=2, error="e", payload=None, key=None)
    assert msgspec.json.decode(msgspec.json.encode(letter)) == {
        "topic": "clicks",
        "partition": 1,
        "offset": 2,
        "error": "e",
        "payload": None,
        "key": None,
    }


class FakeProducer:
    """A broker that takes so many bytes of a message."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.sent: list[tuple[str, int]] = []
        self.asked = 0

    async def send(self, topic: str, key: bytes, value: bytes, *_: Any) -> asyncio.Future[str]:
        self.asked += 1
        outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if len(key or b"") + len(value or b"") > self.most:
            outcome.set_exception(MessageSizeTooLargeError())
        else:
            self.sent.append((topic, len(value)))
            outcome.set_result("place")
        return outcome


def deliver(producer: FakeProducer, largest: dict[str, int], *messages: Outgoing) -> list[Any]:
    app: Any = SimpleNamespace(producer=producer, should_stop=False)
    return asyncio.run(asyncio.wait_for(ReliableProducer(app, largest).deliver(messages), 20))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reliable_producer, "RETRY_S", 0.001)


def letter_of(payload: bytes) -> Outgoing:
    letter = DeadLetter(topic="clicks", partition=0, offset=0, error="e", payload=payload, key=b"k")
    return outgoing_letter("dead-letters", letter)


def test_a_message_over_the_known_limit_is_not_sent() -> None:
    producer = FakeProducer(2 << 20)
    assert deliver(producer, {"dead-letters": 2 << 20}, letter_of(b"x" * 9_000_000), Outgoing("t", b"k", b"v")) == [
        "place",
        "place",
    ]
    assert producer.asked == 2
    assert (2 << 20) - 2_000 < producer.sent[0][1] <= 2 << 20


def test_a_broker_that_takes_less_than_its_setting_causes_no_endless_loop() -> None:
    producer = FakeProducer(100_000)
    messages = (
        Outgoing("t", b"a", b"v"),
        letter_of(b"x" * 9_000_000),
        outgoing_request("r", request(text="t" * 2_000)),
    )
    assert deliver(producer, {"dead-letters": 8 << 20}, *messages) == ["place"] * 3
    last = dict(producer.sent)
    assert 20_000 < last["dead-letters"] <= 100_000
    assert last["r"] <= 100_000


def test_an_event_too_large_to_route_becomes_its_substitute() -> None:
    producer = FakeProducer(1 << 20)
    routed = Outgoing("routed-events", b"ann", b"x" * (2 << 20), smaller=lambda most: letter_of(b"x" * (2 << 20)))
    assert deliver(producer, {}, routed) == ["place"]
    assert [topic for topic, _ in producer.sent] == ["dead-letters"]


def test_a_message_that_cannot_be_cut_waits_for_a_larger_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = FakeProducer(10)
    tries = itertools.count()

    async def wider(_: float) -> None:
        if next(tries) == 5:
            producer.most = 100

    monkeypatch.setattr(reliable_producer, "asyncio", SimpleNamespace(gather=asyncio.gather, sleep=wider))
    assert deliver(producer, {}, Outgoing("changelog", b"k", b"v" * 50)) == ["place"]
    assert producer.asked == 7
