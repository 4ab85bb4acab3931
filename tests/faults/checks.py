"""The truth at the end, by plain clients: nothing lost, nothing counted twice, nothing stale.

The log's events are recomputed in one go (`encoders.interest.recompute`) and compared with each user's last record in
the changelog. Called by `campaign`.
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
from encoders.interest import Event, EventType, Interest, Vector, item_key, recompute
from encoders.text.encoder import TextEncoder
from streams.contracts import Item
from streams.kafka.topics import changelog_name
from streams.settings import Settings
from streams.state.tier import decay_of
from streams.state.users import Users
from tests.faults.load import ITEMS, Load, item
from tests.faults.watcher import Watcher, consumer

SUMS_TOLERANCE = 0.01
"""Of the largest component: a state is rounded to 16 bits at every flush."""


@dataclass
class Verdict:
    """Counts of what must be 0, and some examples in words."""

    lost: int = 0
    doubled: int = 0
    stale: int = 0
    wrong_states: int = 0
    went_back: int = 0
    poison_missing: int = 0
    poison_foreign: int = 0
    poison_repeated: int = 0
    """Dead letters of the same message: at least once, so more than one after a kill; not a fault."""
    examples: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        faults = (self.lost, self.doubled, self.stale, self.wrong_states, self.went_back)
        return not any((*faults, self.poison_missing, self.poison_foreign))

    def note(self, text: str) -> None:
        if len(self.examples) < 20:
            self.examples.append(text)


def verdict(settings: Settings, load: Load, watcher: Watcher) -> Verdict:
    """Compare what was sent with the changelog, the topic of lists, Redis and the dead letters."""
    found = Verdict()
    _check_states(settings, load, found)
    _check_lists(load, watcher, found)
    _check_dead_letters(settings, load, found)
    return found


def records(settings: Settings, topic: str) -> Iterator[tuple[int, int, bytes | None, bytes | None]]:
    """Partition, offset, key and value of every message of a topic (its full name), up to its present end."""
    source = consumer(settings, **{"enable.partition.eof": True})  # the last offset may be a transaction's marker
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
    """The changelog as a worker would restore it: the last value of each key."""
    newest: dict[bytes, bytes] = {}
    for _, _, key, value in records(settings, changelog_name(settings)):
        if key is not None and value is not None:
            newest[key] = value
        elif key is not None:
            newest.pop(key, None)
    return newest


def _check_states(settings: Settings, load: Load, found: Verdict) -> None:
    events = _events_of_the_log(settings, load)
    vectors = _vectors(settings)
    dim = len(next(iter(vectors.values())))
    users = Users(newest_records(settings), dim)
    decay = decay_of(settings)
    for user_id, wanted in load.sent.wanted.items():
        state = users.get(user_id).interest
        found.lost += max(0, wanted - state.version)
        found.doubled += max(0, state.version - wanted)
        if len(events[user_id]) != wanted:
            found.note(f"{user_id}: the log has {len(events[user_id])} distinct events, {wanted} were sent")
        if state.version != wanted:
            found.note(f"{user_id}: state_version {state.version}, {wanted} events")
        right = recompute(events[user_id].values(), vectors.get, decay, dim)
        if not _same(state, right):
            found.wrong_states += 1
            found.note(f"{user_id}: state differs from the recomputed one: {_difference(state, right)}")


def _events_of_the_log(settings: Settings, load: Load) -> dict[str, dict[tuple[str, ...], Event]]:
    poison = {(bad.topic, bad.partition, bad.offset) for bad in load.sent.poison}
    events: dict[str, dict[tuple[str, ...], Event]] = defaultdict(dict)
    kinds: dict[str, EventType] = {"clicks": "click", "purchases": "purchase"}
    for topic, kind in kinds.items():
        for partition, offset, _, value in records(settings, settings.topic(topic)):
            if (topic, partition, offset) not in poison and value is not None:
                sent = json.loads(value)
                event = Event(item_key(sent["item_id"]), sent["timestamp"], kind)
                events[sent["user_id"]].setdefault((topic, sent["event_id"], sent["item_id"]), event)
    return events


def _vectors(settings: Settings) -> dict[int, Vector]:
    items = [Item(**item(number)) for number in range(ITEMS)]
    encoder = TextEncoder(settings.encoder.model, settings.encoder.device, settings.encoder.dtype)
    encoded = encoder.encode([describe_item(one) for one in items]).astype(np.float16).astype(np.float32)
    return {item_key(one.item_id): vector for one, vector in zip(items, encoded, strict=True)}


def _same(state: Interest, right: Interest) -> bool:
    return not _difference(state, right)


def _difference(state: Interest, right: Interest) -> str:
    """What is not alike; the state may have been written with fewer bits than the sums were computed with."""
    parts = [
        name
        for name in ("version", "as_of_ms", "history", "bought", "waiting")
        if not np.array_equal(getattr(state, name), getattr(right, name))
    ]
    for name in ("session", "long"):
        mine, other = getattr(state, name), getattr(right, name)
        if np.abs(mine - other).max() > SUMS_TOLERANCE * max(float(np.abs(other).max()), 1e-6):
            parts.append(f"{name} by {np.abs(mine - other).max():.2g} of {np.abs(other).max():.2g}")
    return ", ".join(parts)


def _check_lists(load: Load, watcher: Watcher, found: Verdict) -> None:
    cached = dict(watcher.cached(list(load.sent.wanted)))
    for user_id, wanted in load.sent.wanted.items():
        on_topic, in_redis = watcher.newest.get(user_id), cached[user_id]
        if on_topic is None or on_topic.state_version != wanted or on_topic != in_redis:
            found.stale += 1
            found.note(f"{user_id}: {wanted} events, topic {on_topic}, Redis {in_redis}")
    found.went_back = len(watcher.went_back)
    for at, user_id, before, after in watcher.went_back[:5]:
        found.note(f"{user_id}: went back at {at:.1f} from {before} to {after}")


def _check_dead_letters(settings: Settings, load: Load, found: Verdict) -> None:
    wanted = {(bad.topic, bad.partition, bad.offset): (bad.payload, bad.key) for bad in load.sent.poison}
    seen: set[tuple[str, int, int]] = set()
    for _, _, _, value in records(settings, settings.topic("dead-letters")):
        letter = json.loads(value or b"")
        place = letter["topic"], letter["partition"], letter["offset"]
        content = _bytes(letter["payload"]), _bytes(letter["key"])
        if place[:2] in load.sent.damaged and "cannot be read" in letter["error"]:
            continue
        if wanted.get(place) != content:
            found.poison_foreign += 1
            found.note(f"dead letter of {place}: {content!r:.200}, {letter['error']:.200}")
        found.poison_repeated += place in seen
        seen.add(place)
    found.poison_missing = len(wanted.keys() - seen)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
