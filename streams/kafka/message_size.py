"""How large our messages may become, and what is left out of a message that does not fit its topic.

A broker takes a message up to the topic's `max.message.bytes`, and managed brokers limit that setting. A message that
was cut is counted. Knows the content of the messages, not how they are sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import msgspec

from ranker.rules.effects import MAX_MOVED
from streams import metrics
from streams.contracts import Candidate, DeadLetter, HistoryEvent, RankRequest, Recommendations
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import OUR_REQUEST
from streams.settings import Settings

CANDIDATE_BYTES = 9 << 10
"""A text of 2,000 characters of four bytes (`encoders.describe`), and a kilobyte for the other fields."""
EVENT_BYTES = 2 << 10
"""An event of a history: a title of 250 characters of four bytes, brand and leaf category; chosen by us."""
LISTED_ITEM_BYTES = 5 << 10
"""An item of a list: two ids of 256 control characters (six bytes each in JSON), three names, six sources."""
SHORTER_TEXTS = (1_000, 500, 250)
KEY_KEPT = 1_024
ERROR_KEPT = 2_000

_Titled = TypeVar("_Titled", Candidate, HistoryEvent)


def request_bytes(settings: Settings) -> int:
    """Return the size in bytes of the largest rank request that these settings allow, with texts as assumed."""
    candidates = settings.recalled + (MAX_MOVED if settings.rules else 0)
    return candidates * CANDIDATE_BYTES + settings.interest.history * EVENT_BYTES


def list_bytes(settings: Settings) -> int:
    """Return the size of the largest list that these settings allow, in bytes."""
    return (1 + settings.ranker.list_size) * LISTED_ITEM_BYTES


def outgoing_request(topic: str, request: RankRequest, *marks: str) -> Outgoing:
    """Return a rank request as a message. Where it does not fit, its texts get shorter, then its candidates fewer.

    Parameters
    ----------
    marks : str
        `own_messages.AGAIN` or `LATER`.
    """
    key, headers = request.user_id.encode(), OUR_REQUEST | dict.fromkeys(marks, b"")
    value, smaller = msgspec.json.encode(request), partial(_smaller_request, topic, request, marks)
    return Outgoing(topic, key, value, headers=headers, smaller=smaller)


def outgoing_list(topic: str, key: str, payload: bytes | None, partition: int) -> Outgoing:
    """Return a list (None to erase it) as a message. Where it does not fit, it gets shorter."""
    smaller = None if payload is None else partial(_smaller_list, topic, key, payload, partition)
    return Outgoing(topic, key.encode(), payload, partition, smaller=smaller)


def outgoing_letter(topic: str, letter: DeadLetter) -> Outgoing:
    """Return a dead letter as a message. Where it does not fit, it has the payload's beginning and the whole size."""
    return Outgoing(topic, letter.key, msgspec.json.encode(letter), smaller=partial(_smaller_letter, topic, letter))


def _smaller_request(topic: str, request: RankRequest, marks: Sequence[str], limit: int) -> Outgoing:
    metrics.messages_cut.labels("rank-requests").inc()
    request = msgspec.structs.replace(
        request,
        history=_with_leaves(request.history),
        candidates=_with_leaves(request.candidates),
    )
    for characters in SHORTER_TEXTS:
        if (outgoing := outgoing_request(topic, request, *marks)).size <= limit:
            return outgoing
        texts = [msgspec.structs.replace(c, text=c.text[:characters]) for c in request.candidates]
        request = msgspec.structs.replace(request, candidates=texts)
    while (outgoing := outgoing_request(topic, request, *marks)).size > limit and request.candidates:
        request = _with_best(request, len(request.candidates) // 2)
    return outgoing


def _with_leaves(items: Sequence[_Titled]) -> list[_Titled]:
    """Keep the last category of each item, the only one that ranking reads."""
    return [msgspec.structs.replace(item, categories=item.categories[-1:]) for item in items]


def _with_best(request: RankRequest, number: int) -> RankRequest:
    """Keep the candidates with the best retrieval scores, in their order, with their features."""
    all_ = request.candidates
    best = sorted(sorted(range(len(all_)), key=lambda index: -all_[index].retrieval_score)[:number])
    features = request.features
    if features is not None:
        width = len(features.values) // len(all_)
        rows = [features.values[index * width : (index + 1) * width] for index in best]
        features = msgspec.structs.replace(features, values=b"".join(rows))
    return msgspec.structs.replace(request, candidates=[all_[index] for index in best], features=features)


def _smaller_list(topic: str, key: str, payload: bytes, partition: int, limit: int) -> Outgoing:
    metrics.messages_cut.labels("recommendations").inc()
    list_ = msgspec.json.decode(payload, type=Recommendations)
    while True:
        outgoing = outgoing_list(topic, key, msgspec.json.encode(list_), partition)
        if outgoing.size <= limit or not list_.items:
            return outgoing
        list_ = msgspec.structs.replace(list_, items=list_.items[: len(list_.items) // 2])


def _smaller_letter(topic: str, letter: DeadLetter, limit: int) -> Outgoing:
    metrics.messages_cut.labels("dead-letters").inc()
    whole = letter.payload
    bare = msgspec.structs.replace(
        letter,
        error=letter.error[:ERROR_KEPT],
        payload=None if whole is None else b"",
        payload_bytes=letter.payload_bytes or len(whole or b""),
        key=letter.key and letter.key[:KEY_KEPT],
        key_bytes=letter.key_bytes or (len(letter.key) if letter.key and len(letter.key) > KEY_KEPT else None),
    )
    room = max(0, limit - outgoing_letter(topic, bare).size) // 4 * 3  # as base64
    if whole is None or len(whole) <= room:  # the key or the error was too large
        return outgoing_letter(topic, msgspec.structs.replace(bare, payload=whole, payload_bytes=letter.payload_bytes))
    return outgoing_letter(topic, msgspec.structs.replace(bare, payload=whole[:room]))
