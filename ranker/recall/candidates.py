"""Step 3, candidates: recall from several sources, merged into one list that says where each item came from.

A source is a class with a name and one method (`Source`); a user adds one by its import path in a setting. Knows no
transport.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from encoders.events.searches import vectors_of
from encoders.events.types import RETURN, SEARCH
from ranker.recall.merge import FIXED, NOT_PROPOSED, Merge
from ranker.recall.nearest_items import Rows, index_in, top
from ranker.recall.newest_items import MAX_NEWEST
from ranker.recall.priorities import Repeats, known_to, priority
from ranker.recall.user_view import UserView


class Proposals(NamedTuple):
    """Items that a source proposes, best first.

    Attributes
    ----------
    rows : (n,) intp
        Rows of the catalogue, each once.
    because : (n,) uint64, optional
        The key of the item in the user's history that led to each item; None where the source does not know.
    """

    rows: Rows
    because: npt.NDArray[np.uint64] | None = None


class Source(Protocol):
    """A source of candidates. Its `name` appears in the `sources` of a recommended item."""

    name: str

    def find(self, user: UserView, limit: int) -> Proposals:
        """Propose at most `limit` items; none for a user for whom the source has none."""
        ...


class KnowsSome(Source, Protocol):
    """A source that can propose only items of which it knows something, such as a picture."""

    def lacks(self, user: UserView, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return of which items it knows nothing, (n,) bool."""
        ...


class RecalledCandidate(NamedTuple):
    """A candidate after the merge.

    Attributes
    ----------
    row : int
        The item's row of the catalogue.
    retrieval_score : float
        Comparable between the candidates of one user; higher is better.
    ranks : dict of str to int
        For the name of each source that proposed the item, its rank there; 0 is the best.
    because : int, optional
        The key of the item in the user's history that led to it.
    """

    row: int
    retrieval_score: float
    ranks: dict[str, int]
    because: int | None


class Nearest:
    """Items whose text is nearest to one of the user's interests: prototypes, session, long term."""

    name = "nearest"

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        queries = user.interests.queries
        return Proposals(user.shelf.nearest(queries, limit) if len(queries) else np.empty(0, np.intp))


class CoVisited:
    """Items that others visited together with the user's recent items: the item-based collaborative filter."""

    name = "co-visited"

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        related = user.related
        for count in (2 * limit, len(related.keys)):  # half of the best are available, as a rule
            best = top(related.total, count)
            indices, rows = user.shelf.recommendable(related.keys[best].tolist())
            if len(indices) >= limit:
                break
        return Proposals(rows[:limit], related.because[best[indices[:limit]]])


class SearchedFor:
    """What the user has searched for lately: the results that were shown, then the items nearest to the queries."""

    name = "searched"

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        searches = user.recent_searches
        if not searches:
            return Proposals(np.empty(0, np.intp))
        shown = user.shelf.recommendable([key for search in reversed(searches) for key in search.results])[1]
        near = user.shelf.nearest(vectors_of(searches, user.catalogue.dim), limit)
        return Proposals(np.array(list(dict.fromkeys([*shown.tolist(), *near.tolist()]))[:limit], np.intp))


class Trending:
    """Items with the most events lately, the same for every user."""

    name = "trending"

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        trending = user.counts.trending()
        # some of them may not be available, or of another domain
        for count in (limit + limit // 8, 3 * limit, len(trending)):
            rows = user.shelf.recommendable(trending[:count])[1]
            if len(rows) >= limit:
                break
        return Proposals(rows[:limit])


class Newest:
    """Items that entered the catalogue last: they have no events that could lead to them."""

    name = "newest"

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        rows = user.catalogue.newest(MAX_NEWEST if user.domain else limit)
        return Proposals(rows[user.shelf.has(rows)][:limit])


class LinkedItems:
    """Items to which at most three steps lead in the knowledge graph from the user's recent items."""

    name = "knowledge"

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        return Proposals(user.walk.items(limit, user.shelf.all()))


BUILT_IN: tuple[Source, ...] = (CoVisited(), Nearest(), SearchedFor(), Trending(), Newest(), LinkedItems())


def recall(
    user: UserView,
    sources: Sequence[Source],
    limit: int,
    repeats: Repeats,
    leave_out: Sequence[int] = (),
    merge: Merge = FIXED,
) -> list[RecalledCandidate]:
    """Give the best of `proposals`.

    Returns
    -------
    list of RecalledCandidate
        At most `limit`, by retrieval score, best first; ties by row.
    """
    return proposals(user, sources, limit, repeats, leave_out, merge).best(limit)


def proposals(
    user: UserView,
    sources: Sequence[Source],
    limit: int,
    repeats: Repeats,
    leave_out: Sequence[int] = (),
    merge: Merge = FIXED,
) -> MergedProposals:
    """Ask every source for what a recall of `limit` candidates needs, and merge the proposals.

    Left out are unavailable items, those of other domains, the item of the user's last event, what the user disliked or
    returned, what of the items that the state remembers `repeats` leaves out, and the items of the keys in `leave_out`.
    """
    excluded = user.catalogue.rows([*_excluded(user, repeats), *leave_out])
    merged = _merge(user, sources, limit + len(excluded), merge)
    is_kept = user.shelf.has(merged.rows)
    left_out = index_in(merged.rows, excluded)
    is_kept[left_out[left_out >= 0]] = False
    return merged.some(np.flatnonzero(is_kept))


def given(
    user: UserView, sources: Sequence[Source], limit: int, repeats: Repeats, rows: Rows, merge: Merge = FIXED
) -> list[RecalledCandidate]:
    """Give the items of these rows as candidates, each as `recall` with the same limit gives it.

    A row may be any row of the catalogue. An item that no source proposes has no ranks, and a retrieval score of 0.
    """
    if not len(rows):
        return []
    merged = _merge(user, sources, limit + len(_excluded(user, repeats)), merge)
    proposed = {one.row: one for one in merged.some(np.flatnonzero(np.isin(merged.rows, rows))).candidates()}
    return [proposed.get(row) or RecalledCandidate(row, 0.0, {}, None) for row in rows.tolist()]


class MergedProposals(NamedTuple):
    """The proposals of all sources, merged.

    Attributes
    ----------
    sources : sequence of str
        The names of the sources.
    rows : (n,) intp
        Rows of the catalogue, ascending, each once.
    scores : (n,) float64
        The retrieval scores.
    because : (n,) uint64
        The key of the item in the user's history that led to each item; 0 where no source knows.
    ranks : (n, sources) intp
        The rank in each source's order; `NOT_PROPOSED` where the source did not propose the item.
    """

    sources: Sequence[str]
    rows: Rows
    scores: npt.NDArray[np.float64]
    because: npt.NDArray[np.uint64]
    ranks: npt.NDArray[np.intp]

    def some(self, indices: Rows) -> MergedProposals:
        """Give the proposals at these indices, in their order."""
        return MergedProposals(
            self.sources, self.rows[indices], self.scores[indices], self.because[indices], self.ranks[indices]
        )

    def best(self, limit: int, user: UserView | None = None) -> list[RecalledCandidate]:
        """Give the candidates with the highest retrieval scores, at most `limit`, best first; ties by row.

        With a user, the priorities of the user's view move them first.
        """
        if user is None or not user.priorities.reorder:
            return self.some(top(self.scores, limit)).candidates()
        order, catalogue = top(self.scores, len(self.rows)), user.catalogue
        rows = self.rows[order]
        first = priority(user, catalogue.keys[rows], catalogue.time_ms[rows], catalogue.log_price[rows])
        moved = np.log10(1 + np.arange(len(rows))) - first
        return self.some(order[np.argsort(moved, kind="stable")[:limit]]).candidates()

    def candidates(self) -> list[RecalledCandidate]:
        """Give all as candidates, in their order."""
        ranks: list[dict[str, int]] = [{} for _ in self.rows]
        for name, of_source in zip(self.sources, self.ranks.T, strict=True):
            proposed = np.flatnonzero(of_source != NOT_PROPOSED)
            for index, rank in zip(proposed.tolist(), of_source[proposed].tolist(), strict=True):
                ranks[index][name] = rank
        because = [key or None for key in self.because.tolist()]
        columns = zip(self.rows.tolist(), self.scores.tolist(), ranks, because, strict=True)
        return list(map(RecalledCandidate._make, columns))


def _merge(user: UserView, sources: Sequence[Source], limit: int, merge: Merge) -> MergedProposals:
    """Ask each source for at most `limit` items."""
    found = [source.find(user, limit) for source in sources]
    rows, index_of = np.unique(
        np.concatenate([np.empty(0, np.intp), *(proposed for proposed, _ in found)]), return_inverse=True
    )
    because = np.zeros(len(rows), np.uint64)
    source_ranks = np.full((len(rows), len(sources)), NOT_PROPOSED)
    begin = 0
    for number, (proposed, proposed_because) in enumerate(found):
        indices = index_of[begin : begin + len(proposed)]
        begin += len(proposed)
        source_ranks[indices, number] = np.arange(len(proposed))
        if proposed_because is not None:  # 0 is no item's key
            because[indices] = np.where(because[indices], because[indices], proposed_because)
    names = [source.name for source in sources]
    lacking = {source.name: source.lacks(user, rows) for source in sources if _knows_some(source)}
    return MergedProposals(names, rows, merge.fair_scores(names, source_ranks, lacking), because, source_ranks)


def _knows_some(source: Source) -> TypeGuard[KnowsSome]:
    return hasattr(source, "lacks")  # `isinstance` of a protocol takes 50 microseconds


def _excluded(user: UserView, repeats: Repeats) -> list[int]:
    """Keys of the items that must not be recommended to the user."""
    history = user.state.history
    newest: list[int] = history["item"][history["type"] != SEARCH][-1:].tolist()
    returned: list[int] = history["item"][history["type"] == RETURN].tolist()
    return [*newest, *user.disliked.tolist(), *returned, *known_to(user, repeats)]
