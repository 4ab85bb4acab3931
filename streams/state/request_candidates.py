"""Recalled candidates as a rank request has them: with what a reason may cite, and what selection and rules read."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from encoders.describe import one_line
from encoders.events.entries import item_key
from ranker.knowledge.walk import Walk
from ranker.recall.candidates import RecalledCandidate
from ranker.recall.evidence import cite
from ranker.recall.item_columns import ItemColumns
from ranker.recall.pull import pulls
from ranker.recall.user_view import UserView
from streams.contracts import Candidate, RankRequest
from streams.state.knowledge_paths import MAX_CHARACTERS, path_in_words


def described_candidates(
    shopper: UserView,
    recalled: Sequence[RecalledCandidate],
    columns: ItemColumns,
    walk: Walk,
    with_purchases: bool,
) -> list[Candidate]:
    """Give the candidates for a request, in their order.

    Parameters
    ----------
    shopper : UserView
        The user.
    recalled : sequence of RecalledCandidate
        Of the catalogue's items.
    columns : ItemColumns
        Of the same items.
    walk : Walk
        The user's walk through the knowledge graph, which leads to what a reason cites.
    with_purchases : bool
        Say when the user bought each of them, because rules read it.
    """
    led_from = np.array([one.because or 0 for one in recalled], np.uint64)
    keys, similar, paths, searches = cite(shopper, columns, led_from, walk)
    pull = [round(one, 3) for one in pulls(shopper, columns).tolist()]
    bought_ms = dict(shopper.state.kept_purchases[["item", "time_ms"]].tolist()) if with_purchases else {}
    bought_at = map(bought_ms.get, columns.keys.tolist())
    catalogue, cited = shopper.catalogue, keys.tolist()
    because_of = {key: catalogue.get(key) for key in set(cited)}  # candidates share the items that led to them
    return [
        Candidate(
            item_id=(item := catalogue.at(one.row)).item_id,
            text=item.text,
            sources=list(one.ranks),
            categories=list(item.categories),
            retrieval_score=one.retrieval_score,
            because=because.item_id if (because := because_of[key]) else None,
            together=because is not None and not is_similar,
            bought_at=bought,
            pull=moved,
            path=path_in_words(path, catalogue) if path and because else [],
            searched=one_line(search)[:MAX_CHARACTERS] if search else "",
        )
        for one, key, is_similar, path, search, moved, bought in zip(
            recalled, cited, similar.tolist(), paths, searches, pull, bought_at, strict=True
        )
    ]


def asked_for(request: RankRequest, built: RankRequest) -> RankRequest:
    """Give a request without candidates what was recalled for it."""
    return msgspec.structs.replace(
        request,
        candidates=built.candidates,
        features=built.features,
        history=request.history or built.history,
        searches=request.searches or built.searches,
        satisfaction=built.satisfaction,
    )


def pulled(shopper: UserView, candidates: list[Candidate]) -> list[Candidate]:
    """Give candidates of others the pull that our own have; none to an item that the catalogue does not know."""
    if not (shopper.recent_searches or len(shopper.disliked) or shopper.priorities.reorder):
        return candidates
    known = [one for one in candidates if item_key(one.item_id) in shopper.catalogue]
    rows = shopper.catalogue.rows(item_key(candidate.item_id) for candidate in known)
    pull = pulls(shopper, shopper.catalogue.columns(rows)).tolist()
    pull_of = {candidate.item_id: round(one, 3) for candidate, one in zip(known, pull, strict=True)}
    return [msgspec.structs.replace(one, pull=pull_of.get(one.item_id, 0.0)) for one in candidates]
