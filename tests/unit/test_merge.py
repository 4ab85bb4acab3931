"""The merge of the sources: against plain numbers, monotone in each source, and fitted without ever getting worse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.evaluation.recall import DEPTHS, MERGED, RecallTally
from ranker.features import NAMES
from ranker.recall.candidates import MergedProposals
from ranker.recall.merge import (
    FIXED,
    MAX_OFFSET,
    MAX_WEIGHT,
    MIN_WEIGHT,
    NOT_PROPOSED,
    OTHER,
    Merge,
    SourceWeight,
)
from ranker.recall.nearest_items import top
from ranker.train.fit import train_validation_split
from ranker.train.merge_fit import FIXED_NAME, LEARNT_NAME, alone, fit_merge
from ranker.train.query_groups import NO_ITEM, QueryGroups
from ranker.train.recalled import RecalledGroups
from streams.offline.query_group_builder import _may_be_chosen

SOURCES = ("co-visited", "nearest", "mine")
weights = st.builds(SourceWeight, st.floats(MIN_WEIGHT, MAX_WEIGHT), st.floats(0, MAX_OFFSET))
merges = st.dictionaries(st.sampled_from(SOURCES), weights).map(Merge)
ranks = st.lists(st.integers(NOT_PROPOSED, 400), min_size=len(SOURCES), max_size=len(SOURCES))


def plain(merge: Merge, ranks_of_item: list[int]) -> float:
    score = 0.0
    for source, rank in zip(SOURCES, ranks_of_item, strict=True):
        weight = merge.weights.get(source, OTHER)
        if rank != NOT_PROPOSED:
            score += weight.weight / (weight.offset + 1 + rank)
    return score


@given(merges, st.lists(ranks, max_size=5))
def test_it_equals_plain_numbers_and_what_was_written_is_read(merge: Merge, items: list[list[int]]) -> None:
    scores = merge.scores(SOURCES, np.array(items, np.intp).reshape(-1, len(SOURCES)))
    assert scores.tolist() == [plain(merge, item) for item in items]
    assert Merge.read(merge.describe()) == merge


@given(merges, st.lists(st.tuples(ranks, st.booleans()), min_size=1, max_size=12))
def test_an_item_keeps_the_place_that_it_has_without_a_source_that_can_know_nothing_of_it(
    merge: Merge, items: list[tuple[list[int], bool]]
) -> None:
    lacks = np.array([lacking for _, lacking in items])
    of_items = np.array([one for one, _ in items], np.intp)
    of_items[lacks, 1] = NOT_PROPOSED
    fair = merge.fair_scores(SOURCES, of_items, {"nearest": lacks})
    plainly = merge.scores(SOURCES, of_items)
    assert sorted(fair.tolist()) == sorted(plainly.tolist())
    without = merge.scores((SOURCES[0], SOURCES[2]), of_items[:, [0, 2]])
    for index in np.flatnonzero(lacks).tolist():
        assert (fair > fair[index]).sum() <= (without > without[index]).sum() + (
            without[:index] == without[index]
        ).sum()
    others = np.flatnonzero(~lacks)
    for one in others.tolist():
        for other in others.tolist():
            assert plainly[one] < plainly[other] or fair[one] >= fair[other] or plainly[one] == plainly[other]


def test_items_that_lack_several_vectors_have_the_places_that_they_have_without_any_of_them() -> None:
    merge = Merge({"co-visited": SourceWeight(1.0, 0.0), "nearest": SourceWeight(9.0), "mine": SourceWeight(9.0)})
    ranks_of = np.array([[0, -1, -1], [1, -1, 0], [2, 0, -1], [3, 1, 1], [4, 2, 2]])
    lacking = {"nearest": np.array([1, 1, 0, 0, 0], bool), "mine": np.array([1, 0, 1, 0, 0], bool)}
    fair = merge.fair_scores(SOURCES, ranks_of, lacking)
    assert np.argsort(-fair).tolist() == [0, 1, 2, 3, 4]
    assert merge.fair_scores(SOURCES, ranks_of, {}).tolist() == merge.scores(SOURCES, ranks_of).tolist()


@given(merges, ranks, st.integers(0, len(SOURCES) - 1), st.integers(0, 400))
def test_an_item_that_one_source_ranks_higher_never_loses(
    merge: Merge, item: list[int], source: int, higher: int
) -> None:
    """And it wins where the number format can tell the two apart."""
    better = [*item]
    if item[source] == NOT_PROPOSED:
        better[source] = higher
    else:
        better[source] = min(higher, item[source])
    worse_score, better_score = merge.scores(SOURCES, np.array([item, better], np.intp)).tolist()
    assert better_score >= worse_score
    if better != item and sum(rank != NOT_PROPOSED for rank in better) == 1:
        assert better_score > worse_score


@given(st.integers(0, 2**32 - 1), st.sampled_from(SOURCES))
def test_a_source_alone_gives_its_own_best_and_the_others_fill_the_rest(seed: int, name: str) -> None:
    drawn, number = np.random.default_rng(seed), SOURCES.index(name)
    order = np.stack([drawn.permutation(150) for _ in SOURCES], axis=1)
    order[order >= 100] = NOT_PROPOSED
    best = top(alone(name, SOURCES).scores(SOURCES, order), 120)
    proposed = np.flatnonzero(order[:, number] != NOT_PROPOSED)
    assert set(best[:100].tolist()) == set(proposed.tolist())
    assert (order[best] != NOT_PROPOSED).any(axis=1).all()


@pytest.mark.parametrize(
    "described",
    [["nearest"], {"nearest": [1]}, {"nearest": [0, 60]}, {"nearest": [1, -1]}, {"nearest": [float("nan"), 60]}],
)
def test_what_is_no_merge_is_refused(described: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        Merge.read(described)


def recalled(skills: list[dict[str, float]], seed: int = 1) -> RecalledGroups:
    """A group for each dictionary: one of 60 items is relevant, and a source proposes it first with that chance."""
    drawn, groups, width = np.random.default_rng(seed), len(skills), 60
    ranks = np.full((groups, width, len(SOURCES)), NOT_PROPOSED, np.int16)
    for group, skill in enumerate(skills):
        for number, source in enumerate(SOURCES):
            order = drawn.permutation(width)[:30]
            order = order[order != 0]
            if drawn.random() < skill[source]:
                order = np.concatenate([[0], order])
            ranks[group, order, number] = np.arange(len(order))
    has_source = (ranks != NOT_PROPOSED).any(axis=2)
    shape = groups, width
    return RecalledGroups(
        QueryGroups(
            texts=[f"item {number}" for number in range(width)],
            event_texts=[f"item {number}" for number in range(width)],
            contexts=["Viewed item 1"] * groups,
            events=[np.array([1], np.int32)] * groups,
            candidates=np.where(has_source, np.arange(width, dtype=np.int32), np.int32(NO_ITEM)),
            labels=(np.arange(width) == 0) & has_source,
            relevant_counts=np.ones(groups, np.int32),
            is_cold=np.zeros(shape, bool),
            cold_counts=np.zeros(groups, np.int32),
            users=np.arange(groups, dtype=np.int32),
            retrieval_scores=np.zeros(shape, np.float32),
            features=np.zeros((*shape, len(NAMES)), np.float16),
        ),
        SOURCES,
        ranks,
    )


def found(groups: RecalledGroups, merge: Merge, limit: int) -> float:
    """Recall, plainly: the share of the groups whose best candidates have the relevant one."""
    merged = groups.merged(merge, limit)
    return float(np.mean([0 in row for row in merged.candidates.tolist()]))


def test_the_fitted_merge_finds_more_than_the_fixed_one_and_than_any_source() -> None:
    groups = recalled([{"co-visited": 0.05, "nearest": 0.3, "mine": 0.6}] * 600)
    fitted = fit_merge(groups, 10, lambda *_: None)
    _, newer = (groups[indices] for indices in train_validation_split(len(groups)))
    assert fitted.name == LEARNT_NAME
    assert fitted.recall[LEARNT_NAME] == pytest.approx(found(newer, fitted.merge, 10))
    assert fitted.recall[FIXED_NAME] == pytest.approx(found(newer, FIXED, 10))
    singles = [value for name, value in fitted.recall.items() if name.endswith("alone")]
    assert len(singles) == len(SOURCES)
    assert fitted.recall[LEARNT_NAME] > max(fitted.recall[FIXED_NAME], *singles)


def test_what_was_learnt_is_dropped_where_it_finds_less_of_the_newer_events() -> None:
    """A source that was right until the newer events came misleads: the best of the others is kept."""
    older, newer = {"co-visited": 0.1, "nearest": 0.1, "mine": 0.9}, {"co-visited": 0.5, "nearest": 0.9, "mine": 0.0}
    fitted = fit_merge(recalled([older] * 340 + [newer] * 60), 10, lambda *_: None)
    assert fitted.name != LEARNT_NAME
    assert fitted.recall[fitted.name] == max(fitted.recall.values()) > fitted.recall[LEARNT_NAME]


def test_a_list_that_was_shown_keeps_its_items_and_teaches_no_merge() -> None:
    groups = recalled([{"co-visited": 0.5, "nearest": 0.5, "mine": 0.5}] * 8)
    groups.ranks[3] = NOT_PROPOSED
    assert groups.recalled.tolist() == [0, 1, 2, 4, 5, 6, 7]
    merged = groups.merged(FIXED, 10)
    sizes = merged.is_candidate.sum(axis=1).tolist()
    assert sizes == [10] * 3 + [int(groups.groups.is_candidate[3].sum())] + [10] * 4


@given(st.integers(0, 2**32 - 1))
def test_what_recall_finds_equals_plain_sets(seed: int) -> None:
    drawn, tally, cases = np.random.default_rng(seed), RecallTally(), 3
    expected: dict[str, float] = dict.fromkeys((MERGED, *SOURCES, *(f"only {name}" for name in SOURCES)), 0.0)
    for _ in range(cases):
        order = np.stack([drawn.permutation(400) for _ in SOURCES], axis=1)
        order[drawn.random(order.shape) < 0.4] = NOT_PROPOSED
        scores = FIXED.scores(SOURCES, order)
        rows = np.arange(400) * 2
        relevant = set(drawn.choice(800, 5, replace=False).tolist())
        in_catalogue = np.array(sorted(row for row in relevant if row % 2 == 0), np.intp)
        for depth in DEPTHS:
            proposals = MergedProposals(SOURCES, rows, scores, np.zeros(400, np.uint64), order)
            tally.note(depth, proposals, in_catalogue, len(relevant))
        best = {}
        for number, name in enumerate(SOURCES):
            proposed = [index for index in range(400) if order[index, number] != NOT_PROPOSED]
            proposed.sort(key=lambda index: order[index, number])
            best[name] = {2 * index for index in proposed[: DEPTHS[0]]} & relevant
            expected[name] += len(best[name]) / len(relevant) / cases
        for name in SOURCES:
            others = set().union(*(items for other, items in best.items() if other != name))
            expected[f"only {name}"] += len(best[name] - others) / len(relevant) / cases
        merged = sorted(range(400), key=lambda index: -scores[index])[: DEPTHS[0]]
        expected[MERGED] += len({2 * index for index in merged} & relevant) / len(relevant) / cases
    figures = tally.figures()
    assert figures[MERGED][DEPTHS[0]].found == pytest.approx(expected[MERGED])
    for name in SOURCES:
        assert figures[name][DEPTHS[0]] == pytest.approx((expected[name], expected[f"only {name}"]))


def test_nothing_was_recalled_without_a_case() -> None:
    assert RecallTally().figures() == {}


@given(st.integers(0, 2**32 - 1), merges)
def test_what_is_left_out_of_the_groups_is_chosen_by_no_merge(seed: int, merge: Merge) -> None:
    drawn = np.random.default_rng(seed)
    order = np.stack([drawn.permutation(90) for _ in SOURCES], axis=1).astype(np.int16)
    order[drawn.random(order.shape) < 0.6] = NOT_PROPOSED
    order = order[(order != NOT_PROPOSED).any(axis=1)]
    chosen = top(merge.scores(SOURCES, order), 10)
    scores = merge.scores(SOURCES, order)
    left_out = np.flatnonzero(~_may_be_chosen(order, 10))
    assert all(scores[index] <= scores[chosen].min() for index in left_out)
