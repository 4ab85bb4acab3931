"""Candidates that a user was shown: in this visit, which come after all others, and time and again without a click."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from encoders.events.shown_lists import HASH_MASK, hash_of
from ranker.recall.candidates import RecalledCandidate
from ranker.recall.catalogue import Catalogue
from streams.contracts import Candidate, RankRequest


def unseen_first(
    candidates: Sequence[RecalledCandidate], catalogue: Catalogue, shown: Collection[int]
) -> tuple[list[RecalledCandidate], list[RecalledCandidate]]:
    """Divide candidates into those that were not shown, and those that were."""
    unseen, seen = list[RecalledCandidate](), list[RecalledCandidate]()
    for one in candidates:
        (seen if int(catalogue.keys[one.row]) & HASH_MASK in shown else unseen).append(one)
    return unseen, seen


def marked(request: RankRequest, shown: Collection[int], unclicked: Mapping[int, int]) -> RankRequest:
    """Mark the candidates that were shown in this visit, and say how often each was shown without a click.

    Parameters
    ----------
    request : RankRequest
    shown : collection of int
        Hashes of items, see `encoders.events.shown_lists`.
    unclicked : mapping of int to int
        By such a hash.
    """
    if not shown and not unclicked:
        return request

    def mark(one: Candidate) -> Candidate:
        item = hash_of(one.item_id)
        if item not in shown and item not in unclicked:
            return one
        return msgspec.structs.replace(one, shown=item in shown, unclicked=unclicked.get(item, 0))

    return msgspec.structs.replace(request, candidates=list(map(mark, request.candidates)))
