"""The losses over whole lists, against loops over pairs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ranker.evaluation.measures import ndcg_at
from ranker.features import NAMES
from ranker.fusion.head import INPUTS
from ranker.train.lists import NOBODY, Lists, joined, ndcg
from ranker.train.losses import lambdarank, ranknet, softmax
from tests.unit.test_compress import made


def drawn(seed: int, lists: int = 5, most: int = 14) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    candidate = np.arange(most) < rng.integers(3, most + 1, lists)[:, None]
    chosen = (rng.random((lists, most)) < 0.3) & candidate
    chosen[:, 0], chosen[:, 1] = True, False
    scores = torch.tensor(rng.normal(size=(lists, most)), requires_grad=True)
    return scores, torch.tensor(chosen), torch.tensor(candidate)


def of_pairs(scores: list[float], chosen: list[bool], by_change: bool) -> float:
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    place = {one: rank for rank, one in enumerate(order)}
    gain = [1 / math.log2(place[one] + 2) if place[one] < 10 else 0.0 for one in range(len(scores))]
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(10, sum(chosen))))
    lost = weights = 0.0
    for right in range(len(scores)):
        for wrong in range(len(scores)):
            if chosen[right] and not chosen[wrong]:
                weight = abs(gain[right] - gain[wrong]) / ideal if by_change else 1.0
                lost += weight * math.log1p(math.exp(scores[wrong] - scores[right]))
                weights += weight
    return lost / weights


@pytest.mark.parametrize("seed", range(5))
def test_losses_equal_plain_loops(seed: int) -> None:
    scores, chosen, candidate = (part.detach() for part in drawn(seed))
    pairwise, changes, shares = [], [], []
    for row, right, there in zip(scores.tolist(), chosen.tolist(), candidate.tolist(), strict=True):
        values = [value for value, known in zip(row, there, strict=True) if known]
        labels = [value for value, known in zip(right, there, strict=True) if known]
        pairwise.append(of_pairs(values, labels, by_change=False))
        changes.append(of_pairs(values, labels, by_change=True))
        total = sum(math.exp(value) for value in values)
        logs = [math.log(math.exp(value) / total) for value, label in zip(values, labels, strict=True) if label]
        shares.append(-sum(logs) / len(logs))
    assert float(softmax(scores, chosen, candidate)) == pytest.approx(np.mean(shares))
    assert float(ranknet(scores, chosen, candidate)) == pytest.approx(np.mean(pairwise))
    assert float(lambdarank(scores, chosen, candidate)) == pytest.approx(np.mean(changes), rel=1e-5)


@pytest.mark.parametrize("loss", [softmax, ranknet, lambdarank])
def test_a_step_down_the_gradient_lifts_what_was_chosen(loss) -> None:  # type: ignore[no-untyped-def]
    scores, chosen, candidate = drawn(9)
    loss(scores, chosen, candidate).backward()
    assert scores.grad is not None
    assert scores.grad[chosen].sum() < 0
    assert (scores.grad[candidate & ~chosen] >= 0).all()
    assert (scores.grad[~candidate] == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_ndcg_of_all_lists_is_each_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    _, chosen, candidate = drawn(seed, lists=8)
    scores = rng.integers(0, 6, chosen.shape).astype(np.float32)  # with ties
    numbers = np.where(candidate.numpy(), np.arange(chosen.shape[1]), NOBODY).astype(np.int32)
    targets = (chosen.numpy().sum(1) + rng.integers(0, 3, 8)).astype(np.int32)
    features = np.zeros((*chosen.shape, INPUTS - 1), np.float16)
    lists = Lists([], [""] * 8, numbers, chosen.numpy(), targets, scores, features)
    for place, found in enumerate(ndcg(scores, lists)):
        there = [one for one in range(chosen.shape[1]) if candidate[place, one]]
        ranked = sorted(there, key=lambda one: -scores[place, one])
        relevant = {one for one in there if chosen[place, one]}
        missed = {-1 - number for number in range(targets[place] - len(relevant))}
        assert found == pytest.approx(ndcg_at(ranked, relevant | missed, 10))


def test_lists_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    lists = made(["caf\u00e9", "", "\ud800 alone", "a\nb"], ["hat", "mug"], np.random.default_rng(), most=2)
    lists.save(tmp_path / "lists.npz")
    back = Lists.read(tmp_path / "lists.npz")
    assert (back.texts, back.contexts) == (lists.texts, lists.contexts)
    assert back.digest() == lists.digest()


def test_lists_of_several_shops_are_joined() -> None:
    """Each keeps its texts, candidates and features; the newest of all stand last."""
    one, other = (
        made(["a", "b", "c", "d"], ["hat", "mug"], np.random.default_rng(1), most=2),
        made(["e", "f"], ["lamp", "tent", "clock"], np.random.default_rng(2), most=3),
    )
    other.features[:] = 1
    whole = joined([one, other])
    assert whole.contexts == ["a", "e", "b", "c", "f", "d"]
    told = {
        context: [whole.texts[item] for item in row if item != NOBODY]
        for context, row in zip(whole.contexts, whole.candidates, strict=True)
    }
    for lists in (one, other):
        for context, row in zip(lists.contexts, lists.candidates, strict=True):
            assert told[context] == [lists.texts[item] for item in row]
    assert [float(row.sum()) for row in whole.features] == [0, 3 * len(NAMES), 0, 0, 3 * len(NAMES), 0]
