"""The losses over whole query groups against loops over pairs, and the query groups themselves."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ranker.features import NAMES
from ranker.train.losses import lambdarank, ranknet, softmax
from ranker.train.query_groups import NO_ITEM, QueryGroups, merge
from tests.unit.test_compress import made
from tests.unit.test_measures import plain_ndcg


def drawn(seed: int, groups: int = 5, width: int = 14) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    is_candidate = np.arange(width) < rng.integers(3, width + 1, groups)[:, None]
    labels = (rng.random((groups, width)) < 0.3) & is_candidate
    labels[:, 0], labels[:, 1] = True, False
    scores = torch.tensor(rng.normal(size=(groups, width)), requires_grad=True)
    return scores, torch.tensor(labels), torch.tensor(is_candidate)


def of_pairs(scores: list[float], labels: list[bool], by_change: bool) -> float:
    order = sorted(range(len(scores)), key=lambda column: -scores[column])
    rank_of = {column: rank for rank, column in enumerate(order)}
    gain = [1 / math.log2(rank_of[column] + 2) if rank_of[column] < 10 else 0.0 for column in range(len(scores))]
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(10, sum(labels))))
    loss = weights = 0.0
    for relevant in range(len(scores)):
        for irrelevant in range(len(scores)):
            if labels[relevant] and not labels[irrelevant]:
                weight = abs(gain[relevant] - gain[irrelevant]) / ideal if by_change else 1.0
                loss += weight * math.log1p(math.exp(scores[irrelevant] - scores[relevant]))
                weights += weight
    return loss / weights


@pytest.mark.parametrize("seed", range(5))
def test_losses_equal_plain_loops(seed: int) -> None:
    scores, labels, is_candidate = (part.detach() for part in drawn(seed))
    pairwise, changes, shares = [], [], []
    for score_row, label_row, mask in zip(scores.tolist(), labels.tolist(), is_candidate.tolist(), strict=True):
        values = [value for value, inside in zip(score_row, mask, strict=True) if inside]
        relevant = [value for value, inside in zip(label_row, mask, strict=True) if inside]
        pairwise.append(of_pairs(values, relevant, by_change=False))
        changes.append(of_pairs(values, relevant, by_change=True))
        total = sum(math.exp(value) for value in values)
        logs = [math.log(math.exp(value) / total) for value, label in zip(values, relevant, strict=True) if label]
        shares.append(-sum(logs) / len(logs))
    assert float(softmax(scores, labels, is_candidate)) == pytest.approx(np.mean(shares))
    assert float(ranknet(scores, labels, is_candidate)) == pytest.approx(np.mean(pairwise))
    assert float(lambdarank(scores, labels, is_candidate)) == pytest.approx(np.mean(changes), rel=1e-5)


@pytest.mark.parametrize("loss", [softmax, ranknet, lambdarank])
def test_a_step_down_the_gradient_lifts_the_relevant_candidates(loss) -> None:  # type: ignore[no-untyped-def]
    scores, labels, is_candidate = drawn(9)
    loss(scores, labels, is_candidate).backward()
    assert scores.grad is not None
    assert scores.grad[labels].sum() < 0
    assert (scores.grad[is_candidate & ~labels] >= 0).all()
    assert (scores.grad[~is_candidate] == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_ndcg_of_all_groups_is_that_of_each_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    _, labels, is_candidate = drawn(seed, groups=8)
    scores = rng.integers(0, 6, labels.shape).astype(np.float32)  # with ties
    candidates = np.where(is_candidate.numpy(), np.arange(labels.shape[1]), NO_ITEM).astype(np.int32)
    counts = (labels.numpy().sum(1) + rng.integers(0, 3, 8)).astype(np.int32)
    features = np.zeros((*labels.shape, len(NAMES)), np.float16)
    groups = QueryGroups(
        texts=[],
        event_texts=[],
        contexts=[""] * 8,
        users=np.arange(8, dtype=np.int32),
        events=[np.empty(0, np.int32)] * 8,
        candidates=candidates,
        labels=labels.numpy(),
        relevant_counts=counts,
        is_cold=np.zeros(labels.shape, bool),
        cold_counts=np.zeros(8, np.int32),
        retrieval_scores=scores,
        features=features,
    )
    for index, ndcg in enumerate(groups.ndcg(scores)):
        columns = [column for column in range(labels.shape[1]) if is_candidate[index, column]]
        ranked = sorted(columns, key=lambda column: -scores[index, column])
        relevant = {column for column in columns if labels[index, column]}
        missed = {-1 - number for number in range(counts[index] - len(relevant))}
        assert ndcg == pytest.approx(plain_ndcg(ranked, relevant | missed, 10))


def test_query_groups_are_loaded_from_a_file_as_they_were_saved(tmp_path: Path) -> None:
    groups = made(["caf\u00e9", "", "\ud800 alone", "a\nb"], ["hat", "mug"], np.random.default_rng(), width=2)
    groups.save(tmp_path / "groups.npz")
    loaded = QueryGroups.load(tmp_path / "groups.npz")
    assert (loaded.texts, loaded.event_texts, loaded.contexts) == (groups.texts, groups.event_texts, groups.contexts)
    assert [loaded.request(index).events for index in range(4)] == [groups.request(index).events for index in range(4)]
    assert loaded.digest() == groups.digest()


def test_query_groups_of_several_shops_are_merged() -> None:
    """Each group keeps its texts, candidates and features; the newest groups of all shops stand last."""
    first, second = (
        made(["a", "b", "c", "d"], ["hat", "mug"], np.random.default_rng(1), width=2),
        made(["e", "f"], ["lamp", "tent", "clock"], np.random.default_rng(2), width=3),
    )
    second.features[:] = 1
    merged = merge([first, second])
    assert merged.contexts == ["a", "e", "b", "c", "f", "d"]
    texts_of = {
        context: [merged.texts[item] for item in row if item != NO_ITEM]
        for context, row in zip(merged.contexts, merged.candidates, strict=True)
    }
    events_of = {context: merged.request(index).events for index, context in enumerate(merged.contexts)}
    for groups in (first, second):
        for index, (context, row) in enumerate(zip(groups.contexts, groups.candidates, strict=True)):
            assert texts_of[context] == [groups.texts[item] for item in row]
            assert events_of[context] == groups.request(index).events
    assert [float(row.sum()) for row in merged.features] == [0, 3 * len(NAMES), 0, 0, 3 * len(NAMES), 0]
