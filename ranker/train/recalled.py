"""Query groups with all that the sources proposed for them, before a merge chooses the candidates.

Knows no source and no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ranker.features import place
from ranker.recall.embedding_space import OF_ITEM, embedding_space, spaces_of
from ranker.recall.merge import NOT_PROPOSED, Merge
from ranker.recall.trained import LearntSource
from ranker.train.query_groups import NO_ITEM, QueryGroups


@dataclass(frozen=True, eq=False)
class RecalledGroups:
    """Query groups whose candidates are all proposals, in the order of their rows.

    Attributes
    ----------
    groups : QueryGroups
        Their retrieval scores say nothing yet.
    sources : tuple of str
    ranks : (groups, width, sources) int16
        See `ranker.recall.candidates.MergedProposals`.
    """

    groups: QueryGroups
    sources: tuple[str, ...]
    ranks: npt.NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, indices: npt.NDArray[np.intp]) -> RecalledGroups:
        return RecalledGroups(self.groups[indices], self.sources, self.ranks[indices])

    @property
    def recalled(self) -> npt.NDArray[np.intp]:
        """Indices of the groups whose candidates were recalled: of a list that was shown some have no source."""
        has_source = (self.ranks != NOT_PROPOSED).any(axis=2)
        return np.flatnonzero((has_source | ~self.groups.is_candidate).all(axis=1) & has_source.any(axis=1))

    def having(self, source: type[LearntSource]) -> npt.NDArray[np.bool_]:
        """Which groups a learnt source has proposed something for; of one that proposes nothing, has features for."""
        proposed = self.ranks[:, :, self.sources.index(source.name)] != NOT_PROPOSED
        if not proposed.any():
            columns = [self.groups.feature_names.index(name) for name in source.columns]
            return np.asarray((self.groups.features[:, :, columns] != 0).any(axis=(1, 2)))
        return np.asarray(proposed.any(axis=1))

    def without(self, source: type[LearntSource]) -> RecalledGroups:
        """The groups without a learnt source: neither its features, nor the candidates that it alone proposed."""
        others = np.delete(self.ranks, self.sources.index(source.name), axis=2)
        alone = (self.ranks != NOT_PROPOSED).any(axis=2) & (others == NOT_PROPOSED).all(axis=2)
        alone &= np.isin(np.arange(len(self)), self.recalled)[:, None]
        dropped = {place(source.name), *source.columns}
        kept = [index for index, name in enumerate(self.groups.feature_names) if name not in dropped]
        groups = replace(
            self.groups,
            candidates=np.where(alone, NO_ITEM, self.groups.candidates).astype(np.int32),
            labels=self.groups.labels & ~alone,
            features=self.groups.features[:, :, kept],
            feature_names=tuple(self.groups.feature_names[index] for index in kept),
        )
        return RecalledGroups(groups, tuple(name for name in self.sources if name != source.name), others)

    def _scores(self, merge: Merge) -> npt.NDArray[np.float64]:
        """The retrieval scores, (groups, width), see `Merge.fair_scores`."""
        names = self.groups.feature_names
        known = {embedding_space(name).name: f"space_{name}_{OF_ITEM[-1]}" for name in spaces_of(names)}
        known = {source: column for source, column in known.items() if source in self.sources}
        scores = merge.scores(self.sources, self.ranks)
        if not known:
            return scores
        for number in self.recalled.tolist():
            rows = np.flatnonzero(self.groups.is_candidate[number])
            features = self.groups.features[number, rows]
            lacking = {source: features[:, names.index(column)] == 0 for source, column in known.items()}
            scores[number, rows] = merge.fair_scores(self.sources, self.ranks[number, rows], lacking)
        return scores

    def merged(self, merge: Merge, limit: int) -> QueryGroups:
        """The groups with the best `limit` candidates of each, best first, as recall gives them.

        A list that was shown keeps all its items.
        """
        groups, is_recalled = self.groups, np.isin(np.arange(len(self)), self.recalled)
        longest = int(groups.is_candidate[~is_recalled].sum(axis=1).max(initial=0))
        scores = np.where(groups.is_candidate, self._scores(merge), -np.inf)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : max(limit, longest)]
        is_kept = np.take_along_axis(groups.is_candidate, best, axis=1)
        is_kept &= ~is_recalled[:, None] | (np.arange(best.shape[1]) < limit)

        def chosen(array: npt.NDArray[Any], fill: int) -> npt.NDArray[Any]:
            return np.where(is_kept, np.take_along_axis(array, best, axis=1), np.array(fill, array.dtype))

        return replace(
            groups,
            candidates=chosen(groups.candidates, NO_ITEM),
            labels=chosen(groups.labels, 0),
            is_cold=chosen(groups.is_cold, 0),
            retrieval_scores=chosen(scores.astype(np.float32), 0),
            features=np.where(
                is_kept[:, :, None], np.take_along_axis(groups.features, best[:, :, None], axis=1), np.float16(0)
            ),
        )
