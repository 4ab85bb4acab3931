"""Every decoder of bytes that others write, as a function from bytes to whether they were valid.

A decoder may only return or raise the error that its docstring promises; any other error is a bug. hypothesis makes the
inputs of the property tests, and atheris, guided by coverage, those of `run`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from encoders.describe import describe_item
from encoders.events.entries import Event
from encoders.interest import Decay, empty, update
from encoders.interest_record import StateUnreadable
from encoders.models.device import Placement
from encoders.models.usage import Usage
from ranker.recall.candidates import BUILT_IN
from ranker.recall.catalogue import Catalogue
from ranker.recall.count_records import decode_counts, encode_counts
from ranker.recall.counts import Counts
from ranker.score import ScoreRequest
from streams.commands import dead_letter_commands, dead_letters
from streams.contracts import Click, DeadLetter, Item, RankRequest, Triple
from streams.rank.tier import RankTier
from streams.receive.decode import INPUTS, receive
from streams.receive.keys import key_of_fields
from streams.receive.message import BadMessage, Message
from streams.settings import Settings
from streams.state import user_record
from streams.state.decays import counts_of
from streams.state.event_memory import seen_of
from streams.state.tier import StateTier
from streams.state.users import Users

NOW_MS = 1_790_000_000_000
DIM = 4
VECTOR = np.full(DIM, 0.5, np.float32)
MAX_EVENTS = 1_000
SETTINGS = Settings()


class Lengths:
    """A scorer whose scores are the lengths of the candidates' texts; raises if a text has two lines."""

    name = "lengths"
    placement = Placement("cpu", "float32", "a test")
    usage = Usage()
    feature_set = None
    reads_events = False

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None:
        pass

    def forget(self, users: Collection[str] | None) -> None:
        pass

    def score(self, requests: Sequence[ScoreRequest]) -> list[Any]:
        if any("\n" in text for request in requests for text in request.candidates):
            raise AssertionError("a candidate is more than one line")
        return [np.array([len(text) for text in request.candidates], np.float32) for request in requests]


class Tiers:
    """Both tiers without a model, and the rank tier with one.

    They are replaced after `MAX_EVENTS` messages, so that memory that grows without bound is a decoder's fault.
    """

    def __init__(self) -> None:
        self.state = StateTier(SETTINGS, Users({}, DIM), Catalogue(DIM), counts_of(SETTINGS), BUILT_IN)
        self.rank = RankTier(SETTINGS, None)
        self.scored = RankTier(SETTINGS, Lengths())
        self.events_left = MAX_EVENTS


_tiers = [Tiers()]


def message(topic: str) -> Callable[[bytes], bool]:
    """Return a function that takes the bytes as a message of a topic, through all steps of a worker.

    Empty bytes are a tombstone. The key is the message's own where a worker checks it.
    """

    def take(data: bytes) -> bool:
        try:
            key = key_of_fields(topic, json.loads(data)) or data[:8]
        except Exception:  # noqa: BLE001  the message is no JSON object, for whatever reason
            key = data[:8]
        received = Message(topic, 0, 1, key, data or None)
        try:
            accepted = receive(received, NOW_MS)
        except BadMessage as error:
            letter = msgspec.json.decode(msgspec.json.encode(received.dead_letter(str(error))), type=DeadLetter)
            if (letter.payload, letter.key) != (received.value, received.key):
                raise AssertionError("the dead letter is not the message, byte for byte") from error
            return False
        _process(accepted)
        return True

    return take


def _process(accepted: Any) -> None:
    """Take an accepted message through the tiers."""
    tiers = _tiers[0]
    tiers.events_left -= 1
    if not tiers.events_left:
        _tiers[0] = Tiers()
    if isinstance(accepted, Click):
        tiers.state.accept(accepted.user_id, [accepted])
        list_ = tiers.rank.rank([tiers.state.request(accepted.user_id, None, None)], NOW_MS)
        msgspec.json.encode(list_)
    elif isinstance(accepted, Item):
        if len(describe_item(accepted)) > 2_000:
            raise AssertionError("the text is too long")
        tiers.state.put_item(accepted, VECTOR, NOW_MS)
    elif isinstance(accepted, Triple):
        tiers.state.catalogue.knowledge.put(accepted.head, accepted.relation, accepted.tail)
    elif isinstance(accepted, RankRequest):
        msgspec.json.encode(tiers.scored.rank([accepted], NOW_MS))


def state_record(data: bytes) -> bool:
    """Decode a user's record from the changelog."""
    try:
        user_record.decode_record(data)
    except StateUnreadable:
        return False
    return True


def item_counts(data: bytes) -> bool:
    """Decode a record of the topic item-counts; the first line is its key, the rest its value."""
    key, _, value = data.partition(b"\n")
    try:
        shard, item, row = decode_counts(key, value)
    except ValueError:
        return False
    counts = Counts(1e9, 1e9)
    counts.put(shard, item, row)
    counts.co_visited([item])
    counts.trending()
    return True


def dead_letter(data: bytes) -> bool:
    """Decode a record of the topic dead-letters, print it, and check that it may be sent to an input topic again."""
    record = SimpleNamespace(partition=0, offset=1, timestamp=NOW_MS, key=None, value=data)
    stored = dead_letters._decode(record)
    dead_letter_commands.printable(stored.letter.payload)
    why_not = dead_letters._unsendable(stored.letter, SETTINGS, dict.fromkeys(INPUTS, 8))
    return not why_not


DECODERS: dict[str, Callable[[bytes], bool]] = {topic: message(topic) for topic in INPUTS} | {
    "state record": state_record,
    "item counts": item_counts,
    "dead letter": dead_letter,
}
"""Each takes any bytes, and returns whether they were valid."""


def good() -> dict[str, list[bytes]]:
    """Return bytes that each decoder accepts: the seeds of a search."""
    click = {"event_id": "e", "user_id": "u", "item_id": "i", "timestamp": NOW_MS, "text": "t", "context": {"a": [1]}}
    event = {"item_id": "i", "type": "click", "timestamp": "2026-03-01T12:00:00Z", "title": "T", "price": 1.5}
    candidate = {
        "item_id": "c",
        "text": "C",
        "sources": ["nearest"],
        "categories": ["k"],
        "retrieval_score": 0.5,
        "because": "i",
    }
    messages: dict[str, list[Any]] = {
        "clicks": [click],
        "purchases": [click | {"quantity": 2, "price": 1.5, "currency": "EUR"}],
        "events": [click | {"type": "rating", "rating": 2, "dwell_ms": 5, "text": "bad"}],
        "preferences": [{"event_id": "w", "user_id": "u", "text": "no fur", "timestamp": NOW_MS}],
        "searches": [{"event_id": "s", "user_id": "u", "text": "hat", "timestamp": NOW_MS, "results": ["i"]}],
        "impressions": [{"event_id": "e", "user_id": "u", "list_id": "l", "items": ["i"], "timestamp": NOW_MS}],
        "items": [{"item_id": "i", "title": "T", "categories": ["a", "b"], "attributes": {"x": {}}, "entities": ["e"]}],
        "knowledge": [{"head": "i", "relation": "by", "tail": "e"}],
        "rank-requests": [
            {"request_id": "r", "user_id": "u", "as_of": NOW_MS, "history": [event], "candidates": [candidate]}
        ],
        "forget": [{"user_id": "u", "timestamp": NOW_MS}],
        "merges": [{"from_user_id": "v", "into_user_id": "u", "timestamp": NOW_MS}],
        "dead letter": [
            {
                "topic": "clicks",
                "partition": 1,
                "offset": 2,
                "error": "e",
                "payload": base64.b64encode(b"x").decode(),
                "key": None,
            }
        ],
    }
    clicked = Event(1, NOW_MS, "click")
    state = update(empty(DIM), clicked, None, Decay())
    record = user_record.encode_record(user_record.UserRecord(state, (seen_of("u", "e", clicked),)))
    counts = Counts(1e9, 1e9)
    counts.observe([Event(2, NOW_MS, "click")], [1])
    rows = [b"\n".join(encode_counts(*row)) for row in counts.changes()]
    encoded = {name: [json.dumps(value).encode() for value in values] for name, values in messages.items()}
    return encoded | {"state record": [record], "item counts": rows}
