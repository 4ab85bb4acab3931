"""What a user's wishes mean for a rank request: candidates that the list may have, and marks on those that move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from encoders.events.entries import item_key
from encoders.interest import Interest
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.wishes.effects import at_work, keeps_out
from ranker.wishes.grammar import HARD
from streams.contracts import Candidate, RankRequest, StatedWish, WishClause
from streams.state.item_dates import described
from streams.state.kept_wishes import KeptWish, sought_by

MAX_UNREAD = 100
"""Characters of the text of a candidate that is only there to be named; chosen by us."""


class RequestWishes:
    """The wishes that hold for a request.

    Parameters
    ----------
    kept : sequence of KeptWish
        Of the user.
    """

    def __init__(self, kept: Sequence[KeptWish]) -> None:
        self._kept = kept
        self._clauses = [clause for one in kept if one.wish for clause in one.wish.clauses]
        self._hard = [clause for clause in self._clauses if clause.effect in HARD]

    def __bool__(self) -> bool:
        return bool(self._kept)

    @property
    def are_hard(self) -> bool:
        """Whether one of them may keep items out of the list."""
        return bool(self._hard)

    def hide(self, item: CatalogueItem) -> bool:
        """Whether one of them keeps an item out of the list."""
        return any(keeps_out(clause, item) for clause in self._hard)

    def seeking(self, interest: Interest) -> Interest:
        """Give the user's interest as if the user had just searched for what the wishes ask for."""
        sought = tuple(search._replace(time_ms=interest.as_of_ms) for search in sought_by(self._kept))
        return replace(interest, searches=(*interest.searches, *sought)) if sought else interest

    def mark(self, request: RankRequest, catalogue: Catalogue) -> RankRequest:
        """Give a request the wishes, and each candidate the clauses that do something to it."""
        if not self._kept:
            return request
        items = [
            catalogue.get(item_key(candidate.item_id)) or described(candidate, 0) for candidate in request.candidates
        ]
        marks = at_work(self._clauses, items)
        candidates = [
            self._marked(candidate, mark) if mark else candidate
            for candidate, mark in zip(request.candidates, marks, strict=True)
        ]
        return msgspec.structs.replace(request, candidates=candidates, wishes=[_stated(one) for one in self._kept])

    def _marked(self, candidate: Candidate, mark: list[int]) -> Candidate:
        """A candidate with the clauses that do something to it. No model reads one that the list may not have."""
        is_kept_out = self._clauses[mark[0]].effect in HARD
        text = candidate.text[:MAX_UNREAD] if is_kept_out else candidate.text
        return msgspec.structs.replace(candidate, wishes=mark, text=text)


NO_WISHES = RequestWishes(())


def _stated(kept: KeptWish) -> StatedWish:
    clauses = kept.wish.clauses if kept.wish else ()
    return StatedWish(
        wish_id=kept.wish_id,
        text=kept.text,
        clauses=[WishClause(effect=clause.effect, words=clause.words) for clause in clauses],
        answer=kept.answer,
        expires_at=kept.expires_ms,
    )
