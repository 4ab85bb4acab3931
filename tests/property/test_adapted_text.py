"""The adapted space equals plain computations: a user's query, what the fit reads, and the space of a catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.events.entries import item_key
from encoders.interest import Vector
from ranker.recall.adapted_text import AdaptedText
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.spaces import fit as fitting
from ranker.spaces.adapter import MAX_HISTORY, Adapter
from ranker.spaces.fit import AdapterFit, SpaceCase, SpaceEvents, recall

TEXT_DIM, DIM, ITEMS = 6, 4, 30


def unit(rng: np.random.Generator, rows: int) -> Vector:
    vectors = rng.normal(size=(rows, TEXT_DIM)).astype(np.float32)
    of_length_1: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return of_length_1


def adapter(rng: np.random.Generator, purchase_weight: float = 3.0) -> Adapter:
    def drawn(*shape: int) -> Vector:
        return rng.normal(size=shape).astype(np.float32)

    decays = np.array([0.1, 3, 20], np.float32)
    return Adapter(drawn(TEXT_DIM), drawn(TEXT_DIM, DIM), drawn(3, TEXT_DIM, DIM), decays, purchase_weight, 10.0)


def plain_query(of: Adapter, history: Vector, is_purchase: Sequence[bool]) -> Vector:
    """The formula of `ranker.spaces.adapter`, event by event, in float64."""
    query = np.zeros(DIM)
    for decay, matrix in zip(of.decays.tolist(), of.queries, strict=True):
        weights = [
            exp(-rank / decay) * (of.purchase_weight if bought else 1)
            for rank, bought in enumerate(is_purchase[:MAX_HISTORY])
        ]
        mean = sum(weight / sum(weights) * (vector - of.mean) for weight, vector in zip(weights, history, strict=False))
        query += np.asarray(mean, np.float64) @ matrix
    return query.astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.booleans(), min_size=1, max_size=60))
def test_a_query_is_the_sum_of_mapped_means(seed: int, is_purchase: list[bool]) -> None:
    rng = np.random.default_rng(seed)
    one, history = adapter(rng), unit(rng, len(is_purchase))
    expected = plain_query(one, history, is_purchase)
    assert one.query(history, np.array(is_purchase)) == pytest.approx(expected, rel=1e-3, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_the_fit_reads_the_histories_that_serving_reads(seed: int) -> None:
    """For each event: the query from the fit's sums is that of the user's earlier events, newest first."""
    rng = np.random.default_rng(seed)
    vectors, count = unit(rng, ITEMS), 120
    log = SpaceEvents(rng.integers(0, 3, count), rng.integers(0, ITEMS, count), rng.random(count) < 0.3)
    served = adapter(rng)
    histories = fitting._Histories(log, served)
    targets = histories.targets(40)
    means = [
        np.array([shares[b:e].numpy() @ vectors[items[b:e].numpy()] for b, e in zip(starts, ends, strict=True)])
        for items, begins, shares in histories.means(targets)
        for starts, ends in [(begins.tolist(), [*begins.tolist()[1:], len(items)])]
    ]
    queries = np.einsum("kbt,ktd->bd", np.array(means) - served.mean, served.queries)
    expected, learnt = [], []
    for index in np.lexsort((np.arange(count), log.user)).tolist():
        before = np.flatnonzero((log.user == log.user[index]) & (np.arange(count) < index))[::-1]
        if index >= 40 and len(before) and log.item[index] not in log.item[before]:
            learnt.append(log.item[index])
            expected.append(served.query(vectors[log.item[before]], log.is_purchase[before]))
    assert histories.item[targets].tolist() == learnt
    assert queries == pytest.approx(np.array(expected), rel=2e-2, abs=2e-2), "weights below .001 are not read"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_recall_is_the_share_of_targets_with_few_better_items(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, vectors = adapter(rng), unit(rng, ITEMS)
    history = rng.integers(0, ITEMS, 4)
    targets = [item for item in range(ITEMS) if item not in history][:3]
    query = one.query(vectors[history], np.zeros(4, bool))
    scores = {item: float(one.place(vectors[[item]])[0] @ query) for item in range(ITEMS) if item not in history}
    best = sorted(scores, key=lambda item: -scores[item])[:5]
    expected = len(set(best) & set(targets)) / 3
    assert recall(one, vectors, [SpaceCase(history, np.zeros(4, bool), targets)], 5) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60))
def test_a_space_holds_every_item_whenever_it_came(seed: int, begun: int) -> None:
    """Items come, change and go before the space begins, while it is filled, and after."""
    rng = np.random.default_rng(seed)
    catalogue, source = Catalogue(TEXT_DIM), AdaptedText(adapter(rng))
    steps = iter(())
    for step in range(120):
        if step == begun:
            steps = source.enter(catalogue)  # type: ignore[assignment]
        number = int(rng.integers(ITEMS))
        if rng.random() < 0.3:
            catalogue.delete(str(number))
        else:
            put = CatalogueItem(str(number), "t", "t", available=bool(rng.random() < 0.8))
            catalogue.put(put, unit(rng, 1)[0])
        if rng.random() < 0.5:
            next(steps, None)
    for _ in steps:
        pass
    space = catalogue.space(source)
    query = rng.normal(size=(1, DIM)).astype(np.float32)
    query /= np.linalg.norm(query)
    rows, similarities = space.nearest(query, ITEMS)
    expected = {
        item.item_id: float(
            (source.adapter.place(catalogue.vectors(catalogue.rows([item_key(item.item_id)]))) @ query[0])[0]
        )
        for item in catalogue
        if item.available
    }
    found = [catalogue.at(row).item_id for row in rows.tolist()]
    assert dict(zip(found, similarities.tolist(), strict=True)) == pytest.approx(expected, abs=1e-5)
    assert similarities.tolist() == sorted(similarities.tolist(), reverse=True)


def test_a_fit_learns_that_another_text_comes_next_than_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users go from a red thing to a blue one. Two fits of one seed are equal, and a state restores what was learnt."""
    monkeypatch.setattr(fitting, "LEARNING_RATE", 0.01)
    rng = np.random.default_rng(3)
    vectors = np.concatenate([unit(rng, 1) + 0.3 * unit(rng, 20), unit(rng, 1) + 0.3 * unit(rng, 20)])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    users = 400
    item = np.stack([rng.integers(0, 20, users), rng.integers(20, 40, users)], axis=1).reshape(-1)
    log = SpaceEvents(np.repeat(np.arange(users), 2), item, np.zeros(2 * users, bool))
    cases = [SpaceCase(np.array([number]), np.zeros(1, bool), [20 + number]) for number in range(20)]
    fit, other = AdapterFit(vectors, 3.0, 1), AdapterFit(vectors, 3.0, 1)
    assert recall(fit.frozen(), vectors, cases, 20) < 0.2
    state = fit.state()
    for one in (fit, other):
        for _ in range(10):
            assert one.epoch(log)
    assert recall(fit.frozen(), vectors, cases, 20) > 0.9
    assert np.array_equal(fit.frozen().queries, other.frozen().queries)
    fit.restore(state)
    assert recall(fit.frozen(), vectors, cases, 20) < 0.2
    assert not fit.epoch(log, deadline=0.0)
    assert np.array_equal(fit.frozen().queries, AdapterFit(vectors, 3.0, 1).frozen().queries)


def test_of_a_large_catalogue_some_items_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MAX_COMPARED", 12)
    rng = np.random.default_rng(1)
    fit = AdapterFit(unit(rng, ITEMS), 3.0, 1)
    for _ in range(10):
        targets = rng.integers(0, ITEMS, 6)
        items, labels = fit._compared(targets)
        assert items[labels].tolist() == targets.tolist()
        assert len(set(items.tolist())) == len(items) <= 12
