"""The selected candidates as the items of a list. Knows no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count

from msgspec import UNSET, UnsetType

from ranker.reasons.language import Language
from ranker.select import SelectedItem
from streams.contracts import Candidate, RankRequest, Reason, RecommendedItem
from streams.rank.list_wishes import fitting


def list_items(
    request: RankRequest,
    language: Language,
    candidates: Sequence[Candidate],
    selected: Sequence[SelectedItem],
    propensities: Sequence[float],
) -> list[RecommendedItem]:
    """Return the items of a list, rank 1 first.

    Parameters
    ----------
    request : RankRequest
        Its wishes are told with the reasons.
    language : Language
        Of the reasons.
    candidates : sequence of Candidate
    selected : sequence of SelectedItem
    propensities : sequence of float
        One for each item; empty for a list that was not explored.
    """
    of_items: Sequence[float | UnsetType] = propensities or [UNSET] * len(selected)
    items = []
    for rank, chosen, propensity in zip(count(1), selected, of_items, strict=False):
        candidate = candidates[chosen.position]
        reason = language.with_wishes(chosen.reason, fitting(request, candidate))
        items.append(
            RecommendedItem(
                item_id=candidate.item_id,
                rank=rank,
                score=chosen.score if math.isfinite(chosen.score) else None,
                sources=candidate.sources,
                reason=Reason(text=reason, evidence=list(chosen.evidence)),
                propensity=propensity,
            )
        )
    return items
