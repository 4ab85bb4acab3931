"""One user as the sources of candidates and the features see them: the state, and what follows from it.

What is costly is computed once for both. Knows no source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.events.entries import ENTRY, Entries
from encoders.events.searches import Searched, vectors_of
from encoders.events.shown_lists import SeenList
from encoders.events.types import FULL, SEARCH
from encoders.interest import Decay, Interest, Vector
from encoders.prototypes import prototypes
from encoders.signals.satisfaction import of_user, signals_of, unclicked_of
from ranker.knowledge.space import KnowledgeSpace
from ranker.knowledge.walk import Walk
from ranker.recall.catalogue import Catalogue
from ranker.recall.counts import DISTANCE_DECAY, Counts
from ranker.recall.item_columns import ItemColumns
from ranker.recall.nearest_items import Rows, index_in, top
from ranker.recall.priorities import USUAL, Priorities
from ranker.recall.related_items import RelatedItems
from ranker.recall.shelf import Shelf

SEARCH_LIVES = 4
"""Chosen by us: after two hours a user comes with another wish."""
RECENT = 25
"""The newest items of the history whose neighbours are candidates."""
JUDGED = 50
"""The items that others visited with the recent ones whose texts are compared; chosen by us: more tell no more."""
LEAST_SPREAD = 1e-3
"""Of a catalogue in which all texts are alike."""
_DECAYED = np.array([DISTANCE_DECAY**rank for rank in range(RECENT)])
FADED = np.float32(1e-15)
"""Largest component of a mean below which its squares come near to the smallest float32."""


@dataclass(frozen=True)
class UserView:
    """What a source may read: one user's state and context, the catalogue, the counts of all users, and priorities.

    `shown` are the newest lists that impressions showed the user. With a domain, only its items may be recommended.
    """

    state: Interest
    catalogue: Catalogue
    counts: Counts
    decay: Decay
    context: Mapping[str, str] = field(default_factory=dict)
    shown: Sequence[SeenList] = ()
    priorities: Priorities = USUAL
    domain: str = ""

    @cached_property
    def shelf(self) -> Shelf:
        """The items that may be recommended."""
        return Shelf(self.catalogue, self.domain)

    @cached_property
    def unclicked(self) -> dict[int, int]:
        """How often each item was shown since the user did anything with it, by its hash (`shown_lists.hash_of`)."""
        return unclicked_of(self.state, self.shown) if self.shown else {}

    @cached_property
    def satisfaction(self) -> float | None:
        """How satisfied the user is, see `encoders.signals.satisfaction.of_user`."""
        score = of_user(signals_of(self.state, self.shown, self.decay))
        return None if score is None else round(score, 3)

    @cached_property
    def disliked(self) -> npt.NDArray[np.uint64]:
        """The keys of the items whose newest event in the history has a negative weight."""
        history = self.state.history
        weights = self.decay.entry_weights(history)
        if not (weights < 0).any():
            return np.empty(0, np.uint64)
        newest = dict(zip(history["item"].tolist(), weights.tolist(), strict=True))  # the last of an item wins
        return np.array([key for key, weight in newest.items() if weight < 0], np.uint64)

    @cached_property
    def liked(self) -> Entries:
        """The events of the history about items that interest the user, oldest first: no search, nothing disliked."""
        history = self.state.history
        interested = self.decay.likes(history)
        return history if interested.all() else history[interested & ~np.isin(history["item"], self.disliked)]

    @property
    def recent_searches(self) -> tuple[Searched, ...]:
        """The searches of the session, newest last: of the last `SEARCH_LIVES` half-lives of the session interest.

        None where a search weighs nothing.
        """
        state = self.state
        if self.decay.weights.get("search", 0.0) <= 0:
            return ()
        since_ms = state.as_of_ms - SEARCH_LIVES * self.decay.session_half_life_ms
        return tuple(search for search in state.searches if search.time_ms >= since_ms)

    @cached_property
    def recent_items(self) -> list[int]:
        """The keys of the items that the user liked, newest first, each once."""
        return list(dict.fromkeys(reversed(self.liked["item"].tolist())))

    @cached_property
    def known_history(self) -> KnownHistory:
        """The events of `liked` whose items the catalogue has."""
        rows = self.catalogue.rows(self.liked["item"].tolist())
        known = rows[rows >= 0]
        return KnownHistory(self.liked[rows >= 0], known, self.catalogue.vectors(known))

    def cosines(self, items: ItemColumns) -> Vector:
        """Return the cosines of items with those of `known_history`, (n, events) float32, not to be changed.

        Those of the last items are kept: evidence, aversion and features are of the same ones.
        """
        if not self._cosines or self._cosines[0] is not items.vectors:
            self._cosines[:] = items.vectors, items.vectors @ self.known_history.vectors.T
        return self._cosines[1]

    @cached_property
    def _cosines(self) -> list[Vector]:
        return []

    @cached_property
    def interests(self) -> InterestDirections:
        """The user's interests as directions in the space of texts."""
        texts, state = self.texts, self.state
        return InterestDirections(
            prototypes(texts.events, texts.vectors, self.decay), _direction(state.session), _direction(state.long)
        )

    @cached_property
    def texts(self) -> LikedTexts:
        """The texts that the user liked, or searched for in this session, oldest first."""
        (events, _, vectors), searches = self.known_history, self.recent_searches
        if not searches:
            return LikedTexts(events, vectors)
        entries = np.array([(search.time_ms, 0, SEARCH, FULL) for search in searches], ENTRY)
        events = np.concatenate([events, entries])
        order = np.argsort(events["time_ms"], kind="stable")
        return LikedTexts(events[order], np.concatenate([vectors, vectors_of(searches, self.catalogue.dim)])[order])

    @cached_property
    def related(self) -> RelatedItems:
        """The items that others visited together with the user's `RECENT` newest items."""
        recent = self.recent_items[:RECENT]
        return RelatedItems.of(recent, self.counts.co_visited(recent))

    @cached_property
    def related_by_others(self) -> npt.NDArray[np.intp]:
        """Indices in `related` of the items that are not in the user's own history, (n,), ascending."""
        is_other, own = np.ones(len(self.related.keys), bool), index_in(self.related.keys, self.state.history["item"])
        is_other[own[own >= 0]] = False
        return np.flatnonzero(is_other)

    @cached_property
    def walk(self) -> Walk:
        """A walk through the knowledge graph from the user's `RECENT` newest items."""
        recent = self.recent_items[:RECENT]
        return Walk(self.catalogue.knowledge, recent, _DECAYED[: len(recent)])

    def walk_by(self, knowledge: KnowledgeSpace) -> Walk:
        """The same walk by the weights of the relations that training has learnt."""
        if knowledge not in self._walks:
            graph, recent = self.catalogue.knowledge, self.recent_items[:RECENT]
            self._walks[knowledge] = Walk(graph, recent, _DECAYED[: len(recent)], knowledge.of_relations(graph))
        return self._walks[knowledge]

    @cached_property
    def _walks(self) -> dict[KnowledgeSpace, Walk]:
        return {}

    @cached_property
    def text_in_history(self) -> float:
        """How much nearer to each other the texts of successive items of the history are than those of any two items.

        1 if they are the same text, 0 if they are like any two items of the catalogue; 0 without two different items.
        """
        _, rows, vectors = self.known_history
        moves = np.flatnonzero(rows[1:] != rows[:-1])
        if not len(moves):
            return 0.0
        return self._nearness(float(np.vdot(vectors[moves], vectors[moves + 1])) / len(moves))

    @cached_property
    def text_in_co_visits(self) -> float:
        """The same of the recent items and those that others visited with them, the strongest `JUDGED` by similarity.

        0 where there are none.
        """
        related, others_of = self.related, self.related_by_others
        strongest = others_of[top(related.total[others_of], JUDGED)]
        pairs = self.catalogue.rows(np.concatenate([related.keys[strongest], related.because[strongest]]).tolist())
        pairs = pairs.reshape(2, -1)
        known = (pairs >= 0).all(axis=0)
        weights = related.total[strongest][known]
        if not weights.sum() > 0:
            return 0.0
        others, recent = (self.catalogue.vectors(rows) for rows in pairs[:, known])
        return self._nearness(np.einsum("ij,ij->i", others, recent) @ weights / weights.sum())

    def _nearness(self, cosine: float) -> float:
        """A mean cosine over that of any two items: 1 for the same text, 0 for no nearer than any two."""
        of_any_two = self.catalogue.mean_cosine
        return float((cosine - of_any_two) / max(1 - of_any_two, LEAST_SPREAD))


def _direction(mean: Vector) -> Vector | None:
    """The mean at unit length; None if it has faded to nothing."""
    largest = np.abs(mean).max(initial=0.0)
    if largest < np.finfo(np.float32).tiny:
        return None
    scaled: Vector = mean if largest > FADED else mean / largest
    return scaled / np.linalg.norm(scaled)


class KnownHistory(NamedTuple):
    """The events of a user about items of the catalogue that the user liked, oldest first.

    Attributes
    ----------
    events : (n,) `encoders.events.entries.ENTRY`
    rows : (n,) intp
        The row of each event's item.
    vectors : (n, dim) float32
        Its text vector.
    """

    events: Entries
    rows: Rows
    vectors: Vector


class LikedTexts(NamedTuple):
    """Texts that say what a user is interested in, oldest first.

    Attributes
    ----------
    events : (n,) `encoders.events.entries.ENTRY`
    vectors : (n, dim) float32
        Of the text of each event's item or search, at unit length.
    """

    events: Entries
    vectors: Vector


class InterestDirections(NamedTuple):
    """A user's interests, each of unit length.

    Attributes
    ----------
    prototypes : (k, dim) float32
        The heaviest first.
    session, long : (dim,) float32, or None
        The means of the session and of the long term; None without events.
    """

    prototypes: Vector
    session: Vector | None
    long: Vector | None

    @property
    def queries(self) -> Vector:
        """(k, dim) float32: all of them; no rows for a user without a known item."""
        means = [mean for mean in (self.session, self.long) if mean is not None]
        return np.concatenate([self.prototypes, np.array(means, np.float32).reshape(-1, self.prototypes.shape[1])])
