"""Choose the candidates of query groups: with each learnt source that makes the lists or the candidates better.

A head of the features alone is fitted with the source and one without; the same newer groups judge both. Knows no
source and no log.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from ranker.progress import Progress, silent
from ranker.recall.embedding_space import EmbeddingSpace
from ranker.recall.number_feature import NumberFeature
from ranker.recall.trained import LearntSource
from ranker.train.fit import train_validation_split
from ranker.train.head_fit import HeadSettings, fit_head, fused
from ranker.train.merge_fit import FIXED_MERGE, FittedMerge, fit_merge
from ranker.train.query_groups import QueryGroups, ScoredGroups
from ranker.train.recalled import RecalledGroups

MIN_ERRORS = 1.01
"""Standard errors by which a figure must differ; chosen by us: less is as likely chance. If a single group differs, the
mean difference is one standard error."""
MIN_ERRORS_OF_VALUES = 2.0
"""The same for what items bring, vectors and numbers: a shop may have many, and some say nothing. By chance one in six
differs by a standard error, one in forty by two."""
MIN_JUDGED = 50
"""Newer groups to judge a source by; of fewer, chance would choose."""
Figures = npt.NDArray[np.float64]
Kind = type[LearntSource]


@dataclass(frozen=True, eq=False)
class ChosenGroups:
    """Query groups with their candidates.

    Attributes
    ----------
    groups : QueryGroups
    merge : FittedMerge
        What chose the candidates among the proposals.
    recalled : int
        How many groups were built.
    judged : mapping
        For each learnt source that was judged, by name: whether it is `kept`, and if there were groups enough: NDCG@10
        and recall of the candidates on the newer groups with it and without, the mean differences and their standard
        errors.
    """

    groups: QueryGroups
    merge: FittedMerge
    recalled: int
    judged: Mapping[str, Mapping[str, Any]]

    @property
    def kept(self) -> list[str]:
        """The learnt sources whose candidates and features are in the groups."""
        return [name for name, facts in self.judged.items() if facts["kept"]]


def choose_without(recalled: RecalledGroups, limit: int, learn_merge: bool, progress: Progress) -> ChosenGroups:
    """Choose candidates where there is no learnt source.

    Parameters
    ----------
    recalled : RecalledGroups
        In the order of time.
    limit : int
        How many candidates a model scores.
    learn_merge : bool
        Fit the merge, or keep the fixed weights.
    progress : Progress
        In sources.
    """
    merge = fit_merge(recalled, limit, progress) if learn_merge else FIXED_MERGE
    return ChosenGroups(recalled.merged(merge.merge, limit), merge, len(recalled), {})


def choose(
    recalled: RecalledGroups,
    sources: Sequence[Kind],
    limit: int,
    head: HeadSettings,
    progress: Progress,
    keep: Collection[Kind] = (),
) -> ChosenGroups:
    """Choose candidates: source by source, each is kept if they are better with it than without.

    Better are the lists, by NDCG@10; or the candidates, by recall, if the lists are not worse. Each difference must be
    more than `MIN_ERRORS` standard errors, or `MIN_ERRORS_OF_VALUES` for what items bring.

    Parameters
    ----------
    recalled : RecalledGroups
        In the order of time. The oldest may lack the sources, because these were learnt from their events; they have no
        part in what is chosen with a source.
    sources : sequence of type of LearntSource
        Each is judged beside those before it that are kept.
    limit : int
        How many candidates a model scores.
    head : HeadSettings
        Of all heads.
    progress : Progress
        In epochs of each head.
    keep : collection of type of LearntSource
        Sources that are kept however they are judged, unless too few groups have them.
    """
    validation = len(train_validation_split(len(recalled))[1])
    kept: list[Kind] = []
    judged: dict[str, Mapping[str, Any]] = {}
    chosen, best = choose_without(_with_only(recalled, kept, sources), limit, True, silent), None
    for source in sources:
        having = _with_only(recalled, [*kept, source], sources)
        if len(having) < 2 * validation or (validation < MIN_JUDGED and source not in keep):
            judged[source.name] = {"kept": False}
            continue
        best = best or _Judged.of(chosen, validation, head, progress)
        other = _Judged.of(choose_without(having, limit, True, silent), validation, head, progress)
        is_of_items = issubclass(source, (EmbeddingSpace, NumberFeature))
        judged[source.name] = other.against(best, source in keep, MIN_ERRORS_OF_VALUES if is_of_items else MIN_ERRORS)
        if judged[source.name]["kept"]:
            best, chosen = other, other.chosen
            kept.append(source)
    return ChosenGroups(chosen.groups, chosen.merge, len(recalled), judged)


def _with_only(recalled: RecalledGroups, wanted: Sequence[Kind], sources: Sequence[Kind]) -> RecalledGroups:
    """The groups from that one on before which each wanted source has proposed something, without the other sources."""
    for source in wanted:
        has_source = recalled.having(source)
        first = int(has_source.argmax()) if has_source.any() else len(recalled)
        recalled = recalled[np.arange(first, len(recalled))]
    for source in sources:
        if source not in wanted:
            recalled = recalled.without(source)
    return recalled


@dataclass(frozen=True, eq=False)
class _Judged:
    """Groups, and the figures of each of the newest ones.

    Attributes
    ----------
    ndcg : (n,) float64
        NDCG@10 of a head of the features that learnt from the older groups.
    recall : (n,) float64
        The share of the relevant items among the candidates.
    """

    chosen: ChosenGroups
    ndcg: Figures
    recall: Figures

    @staticmethod
    def of(chosen: ChosenGroups, validation: int, head: HeadSettings, progress: Progress) -> _Judged:
        unscored = ScoredGroups.unscored(chosen.groups)
        begin = len(unscored) - validation
        older, newer = unscored[np.arange(begin)], unscored[np.arange(begin, len(unscored))]
        fitted, _ = fit_head(older, newer, head, progress)
        found = newer.groups.labels.sum(axis=1) / newer.groups.relevant_counts
        return _Judged(chosen, newer.groups.ndcg(fused(fitted, newer).scores), found)

    def against(self, other: _Judged, keep: bool, errors: float = MIN_ERRORS) -> dict[str, Any]:
        """Whether to keep what these groups have and the others have not, in any case or by the figures.

        These must be better by so many standard errors.
        """
        of_lists, of_candidates = _Difference.of(self.ndcg, other.ndcg), _Difference.of(self.recall, other.recall)
        kept = keep or of_lists.is_better(errors) or (of_candidates.is_better(errors) and not of_lists.is_worse)
        return {
            "kept": kept,
            "ndcg_at_10_with": round(float(self.ndcg.mean()), 6),
            "ndcg_at_10_without": round(float(other.ndcg.mean()), 6),
            "difference": round(of_lists.mean, 6),
            "standard_error": round(of_lists.error, 6),
            "recall_with": round(float(self.recall.mean()), 6),
            "recall_without": round(float(other.recall.mean()), 6),
            "recall_difference": round(of_candidates.mean, 6),
            "recall_standard_error": round(of_candidates.error, 6),
        }


@dataclass(frozen=True)
class _Difference:
    """A mean difference and its standard error."""

    mean: float
    error: float

    @staticmethod
    def of(one: Figures, other: Figures) -> _Difference:
        difference = one - other
        return _Difference(float(difference.mean()), float(difference.std(ddof=1) / sqrt(len(difference))))

    def is_better(self, errors: float) -> bool:
        return self.mean > errors * self.error

    @property
    def is_worse(self) -> bool:
        return self.mean < -MIN_ERRORS * self.error
