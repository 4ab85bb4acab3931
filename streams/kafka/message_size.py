"""How large a message of ours may become, and what is left out of one that does not fit its topic.

A broker takes a message up to the topic's `max.message.bytes`, and managed ones set limits to that. What is cut says so
itself, and is counted. Knows what the messages hold, not how they get out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import msgspec

from streams import metrics
from streams.contracts import Candidate, DeadLetter, Features, HistoryEvent, RankRequest, Recommendations
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import OUR_REQUEST
from streams.settings import Settings

CANDIDATE_BYTES = 8 << 10
"""2,000 characters (`encoders.describe.MAX_CHARACTERS`) of four bytes, and some for the rest."""
EVENT_BYTES = 2 << 10
"""Of a history: a title of 250 characters of four bytes, brand and leaf category; chosen by us."""
PLACE_BYTES = 4 << 10
"""Of a list: two ids of 256 control characters, six bytes each in JSON, a title of 100 characters, four sources."""
SHORTER_TEXTS = (1_000, 500, 250)
KEY_KEPT = 1_024
ERROR_KEPT = 2_000

_Titled = TypeVar("_Titled", Candidate, HistoryEvent)


def request_bytes(settings: Settings) -> int:
    """The largest rank request that these settings lead to, as long as its texts are no longer than that."""
    return settings.candidates.limit * CANDIDATE_BYTES + settings.interest.history * EVENT_BYTES


def list_bytes(settings: Settings) -> int:
    """The largest list that these settings lead to."""
    return (1 + settings.ranker.list_size) * PLACE_BYTES


def outgoing_request(topic: str, request: RankRequest) -> Outgoing:
    """A rank request of ours; where it does not fit, its texts are shorter, then its candidates fewer."""
    key = request.user_id.encode()
    value, smaller = msgspec.json.encode(request), partial(_smaller_request, topic, request)
    return Outgoing(topic, key, value, headers=OUR_REQUEST, smaller=smaller)


def outgoing_list(topic: str, user_id: str, payload: bytes | None) -> Outgoing:
    """A list, or None to erase it; where it does not fit, it is shorter."""
    smaller = None if payload is None else partial(_smaller_list, topic, payload)
    return Outgoing(topic, user_id.encode(), payload, smaller=smaller)


def outgoing_letter(topic: str, letter: DeadLetter) -> Outgoing:
    """A dead letter; where it does not fit, it has the beginning of its payload, and the size of all of it."""
    return Outgoing(topic, letter.key, msgspec.json.encode(letter), smaller=partial(_smaller_letter, topic, letter))


def _smaller_request(topic: str, request: RankRequest, most: int) -> Outgoing:
    metrics.messages_cut.labels("rank-requests").inc()
    request = msgspec.structs.replace(
        request,
        history=_with_leaves(request.history),
        candidates=_with_leaves(request.candidates),
    )
    for characters in SHORTER_TEXTS:
        if (outgoing := outgoing_request(topic, request)).size <= most:
            return outgoing
        texts = [msgspec.structs.replace(one, text=one.text[:characters]) for one in request.candidates]
        request = msgspec.structs.replace(request, candidates=texts)
    while (outgoing := outgoing_request(topic, request)).size > most and request.candidates:
        request = _with_best(request, len(request.candidates) // 2)
    return outgoing


def _with_leaves(ones: Sequence[_Titled]) -> list[_Titled]:
    """Ranking reads the last category of each alone."""
    return [msgspec.structs.replace(one, categories=one.categories[-1:]) for one in ones]


def _with_best(request: RankRequest, number: int) -> RankRequest:
    """Keep the best candidates by their own order, and their features."""
    all_ = request.candidates
    best = sorted(sorted(range(len(all_)), key=lambda place: -all_[place].retrieval_score)[:number])
    features = request.features
    if features is not None:
        width = len(features.values) // len(all_)
        rows = [features.values[place * width : (place + 1) * width] for place in best]
        features = Features(schema=features.schema, values=b"".join(rows))
    return msgspec.structs.replace(request, candidates=[all_[place] for place in best], features=features)


def _smaller_list(topic: str, payload: bytes, most: int) -> Outgoing:
    metrics.messages_cut.labels("recommendations").inc()
    list_ = msgspec.json.decode(payload, type=Recommendations)
    while True:
        outgoing = outgoing_list(topic, list_.user_id, msgspec.json.encode(list_))
        if outgoing.size <= most or not list_.items:
            return outgoing
        list_ = msgspec.structs.replace(list_, items=list_.items[: len(list_.items) // 2])


def _smaller_letter(topic: str, letter: DeadLetter, most: int) -> Outgoing:
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
    room = max(0, most - outgoing_letter(topic, bare).size) // 4 * 3  # as base64
    if whole is None or len(whole) <= room:  # the key or the error was too large
        return outgoing_letter(topic, msgspec.structs.replace(bare, payload=whole, payload_bytes=letter.payload_bytes))
    return outgoing_letter(topic, msgspec.structs.replace(bare, payload=whole[:room]))
