"""The checks at the end of a campaign, by plain clients: nothing is lost, counted twice or stale.

All events of the log are computed into states at once (`encoders.interest.recompute`) and compared with each user's
last record in the changelog.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

from encoders.describe import describe_item
from encoders.events.entries import Event, item_key
from encoders.interest import Interest, Vector, recompute
from encoders.text.encoder import TextEncoder
from streams.contracts import Item
from streams.kafka.topics import changelog_name
from streams.settings import Settings
from streams.state.decays import decay_of
from streams.state.users import Users
from tests.faults.load import ITEMS, Load
from tests.faults.load import item as item_message
from tests.faults.watcher import Watcher, consumer

SUMS_TOLERANCE = 0.01
"""A share of the largest component: every flush rounds a state to 16 bits."""


@dataclass
class Verdict:
    """Counts that must be 0, and some examples in words.

    Attributes
    ----------
    lost, doubled : int
        Events that are missing in states, and events that were counted more than once.
    stale : int
        Users whose newest list, on the topic or in Redis, does not know all their events.
    wrong_states : int
        Users whose state differs from the recomputed one.
    went_back : int
        Lists that followed a list of a newer state.
    poison_missing, poison_foreign : int
        Poison without a dead letter, and dead letters of other messages.
    poison_repeated : int
        Further dead letters of the same message; delivery is at least once, so some after a kill are right.
    examples : list of str
    """

    lost: int = 0
    doubled: int = 0
    stale: int = 0
    wrong_states: int = 0
    went_back: int = 0
    poison_missing: int = 0
    poison_foreign: int = 0
    poison_repeated: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether all counts that must be 0 are 0."""
        faults = (self.lost, self.doubled, self.stale, self.wrong_states, self.went_back)
        return not any((*faults, self.poison_missing, self.poison_foreign))

    def note(self, text: str) -> None:
        """Add an example, up to 20."""
        if len(self.examples) < 20:
            self.examples.append(text)


def verdict(settings: Settings, load: Load, watcher: Watcher) -> Verdict:
    """Compare what was sent with the changelog, the topic of lists, Redis and the dead letters."""
    result = Verdict()
    _check_states(settings, load, result)
    _check_lists(load, watcher, result)
    _check_dead_letters(settings, load, result)
    return result


def records(settings: Settings, topic: str) -> Iterator[tuple[int, int, bytes | None, bytes | None]]:
    """Yield partition, offset, key and value of every message of a topic (its full name), up to its present end."""
    source = consumer(settings, **{"enable.partition.eof": True})  # the last record may be a transaction's marker
    try:
        unread = set(range(settings.kafka.partitions))
        source.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
        while unread:
            message: Any = source.poll(30)
            assert message is not None, f"{topic}: nothing more, expected the ends of {unread}"
            if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
                continue
            assert not message.error(), message.error()
            yield message.partition(), message.offset(), message.key(), message.value()
    finally:
        source.close()


def newest_records(settings: Settings) -> dict[bytes, bytes]:
    """Return the last value of each key of the changelog, as a worker restores it."""
    newest: dict[bytes, bytes] = {}
    for _, _, key, value in records(settings, changelog_name(settings)):
        if key is not None and value is not None:
            newest[key] = value
        elif key is not None:
            newest.pop(key, None)
    return newest


def _check_states(settings: Settings, load: Load, result: Verdict) -> None:
    events = _events_of_the_log(settings, load)
    vectors = _vectors(settings)
    dim = len(next(iter(vectors.values())))
    users = Users(newest_records(settings), dim)
    decay = decay_of(settings)
    for user_id, expected in load.sent.events_of.items():
        state = users.get(user_id).interest
        result.lost += max(0, expected - state.version)
        result.doubled += max(0, state.version - expected)
        if len(events[user_id]) != expected:
            result.note(f"{user_id}: the log has {len(events[user_id])} distinct events, {expected} were sent")
        if state.version != expected:
            result.note(f"{user_id}: state_version {state.version}, {expected} events")
        recomputed = recompute(events[user_id].values(), vectors.get, decay, dim)
        if not _same(state, recomputed):
            result.wrong_states += 1
            result.note(f"{user_id}: state differs from the recomputed one: {_difference(state, recomputed)}")


def _events_of_the_log(settings: Settings, load: Load) -> dict[str, dict[tuple[str, ...], Event]]:
    """Return each user's distinct valid events."""
    poison = {(bad.topic, bad.partition, bad.offset) for bad in load.sent.poison}
    events: dict[str, dict[tuple[str, ...], Event]] = defaultdict(dict)
    kinds: dict[str, str] = {"clicks": "click", "purchases": "purchase"}
    for topic, kind in kinds.items():
        for partition, offset, _, value in records(settings, settings.topic(topic)):
            if (topic, partition, offset) not in poison and value is not None:
                sent = json.loads(value)
                event = Event(item_key(sent["item_id"]), sent["timestamp"], kind)
                events[sent["user_id"]].setdefault((topic, sent["event_id"], sent["item_id"]), event)
    return events


def _vectors(settings: Settings) -> dict[int, Vector]:
    """Return each item's vector, rounded as the catalogue rounds it."""
    items = [Item(**item_message(number)) for number in range(ITEMS)]
    encoder = TextEncoder(settings.encoder.model, settings.encoder.device, settings.encoder.dtype)
    encoded = encoder.encode([describe_item(item) for item in items]).astype(np.float16).astype(np.float32)
    return {item_key(item.item_id): vector for item, vector in zip(items, encoded, strict=True)}


def _same(state: Interest, expected: Interest) -> bool:
    return not _difference(state, expected)


def _difference(state: Interest, expected: Interest) -> str:
    """Return the names of the different fields; empty if the states are equal but for rounding."""
    parts = [
        name
        for name in ("version", "as_of_ms", "history", "bought", "waiting")
        if not np.array_equal(getattr(state, name), getattr(expected, name))
    ]
    for name in ("session", "long"):
        actual, right = getattr(state, name), getattr(expected, name)
        if np.abs(actual - right).max() > SUMS_TOLERANCE * max(float(np.abs(right).max()), 1e-6):
            parts.append(f"{name} by {np.abs(actual - right).max():.2g} of {np.abs(right).max():.2g}")
    return ", ".join(parts)


def _check_lists(load: Load, watcher: Watcher, result: Verdict) -> None:
    cached = dict(watcher.cached(list(load.sent.events_of)))
    for user_id, expected in load.sent.events_of.items():
        on_topic, in_redis = watcher.newest.get(user_id), cached[user_id]
        if on_topic is None or on_topic.state_version != expected or on_topic != in_redis:
            result.stale += 1
            result.note(f"{user_id}: {expected} events, topic {on_topic}, Redis {in_redis}")
    result.went_back = len(watcher.went_back)
    for at, user_id, before, after in watcher.went_back[:5]:
        result.note(f"{user_id}: went back at {at:.1f} from {before} to {after}")


def _check_dead_letters(settings: Settings, load: Load, result: Verdict) -> None:
    expected = {(bad.topic, bad.partition, bad.offset): (bad.payload, bad.key) for bad in load.sent.poison}
    seen: set[tuple[str, int, int]] = set()
    for _, _, _, value in records(settings, settings.topic("dead-letters")):
        letter = json.loads(value or b"")
        position = letter["topic"], letter["partition"], letter["offset"]
        content = _bytes(letter["payload"]), _bytes(letter["key"])
        if position[:2] in load.sent.damaged and "cannot be read" in letter["error"]:
            continue
        if expected.get(position) != content:
            result.poison_foreign += 1
            result.note(f"dead letter of {position}: {content!r:.200}, {letter['error']:.200}")
        result.poison_repeated += position in seen
        seen.add(position)
    result.poison_missing = len(expected.keys() - seen)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
