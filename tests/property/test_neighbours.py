"""The fit of learnt neighbours equals a plain one: rows for every split, one by one, and a regression for each item."""

from __future__ import annotations

from math import exp

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ranker.neighbours import fit as fitting
from ranker.neighbours.fit import fit
from ranker.neighbours.settings import Kind, NeighbourEvents, NeighbourSettings

Matrix = npt.NDArray[np.float64]
ITEMS, DAY_MS = 7, 86_400_000
KEYS = np.array([50, 3, 2**63 + 5, 8, 1, 77, 20], np.uint64)

logs = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, ITEMS - 1), st.integers(0, 30)), min_size=1, max_size=24
).map(lambda rows: [(user, item, day * DAY_MS) for user, item, day in rows])


def plain(log: list[tuple[int, int, int]], chosen: NeighbourSettings, items: list[int]) -> Matrix:
    """B by its definition, (ITEMS, ITEMS) float64: a column is the regression on its predictors, or on all items."""
    newest_ms = max(time_ms for _, _, time_ms in log)
    past_rows, future_rows, weights = [], [], []
    for user in range(4):
        own = sorted((event for event in log if event[0] == user), key=lambda event: event[2])
        shown = [item if item in items else -1 for _, item, _ in own]
        kept = [index for index in range(len(own)) if not index or shown[index] != shown[index - 1]]
        own, shown = [own[index] for index in kept], [shown[index] for index in kept]
        if chosen.kind != "slit":
            for item in set(shown) - {-1}:
                newest = max(time_ms for (_, _, time_ms), which in zip(own, shown, strict=True) if which == item)
                assert newest <= newest_ms
            row = np.zeros(ITEMS)
            row[list(set(shown) - {-1})] = 1
            past_rows.append(row)
            future_rows.append(row)
            weights.append(1.0)
            continue
        for split in range(len(own) - 1):
            past, future = np.zeros(ITEMS), np.zeros(ITEMS)
            for index, item in enumerate(shown):
                if item == -1:
                    continue
                if index <= split:
                    past[item] += exp(-(split - index) / chosen.past)
                elif item not in shown[:index]:
                    future[item] += exp(-(index - split - 1) / chosen.future)
            past_rows.append(past)
            future_rows.append(future)
            half_life = chosen.half_life_days
            age_days = (newest_ms - own[split][2]) / DAY_MS
            weights.append(1.0 if half_life is None else 2 ** (-age_days / half_life))
    s = np.array(past_rows).reshape(-1, ITEMS)
    t, w = np.array(future_rows).reshape(-1, ITEMS), np.diag(weights)
    gram, right = s.T @ w @ s + chosen.ridge * np.eye(ITEMS), s.T @ w @ t
    b = np.zeros((ITEMS, ITEMS))
    for column in items:
        alone = right[:, column] / np.diag(gram)
        if chosen.kind != "slit":
            alone[column] = np.inf if chosen.kind == "slis" else 0
        predictors = [item for item in items if chosen.kind != "ease" or item != column]
        if chosen.predictors is not None:
            predictors = [item for item in predictors if alone[item] > 0]
        b[predictors, column] = np.linalg.solve(gram[np.ix_(predictors, predictors)], right[predictors, column])
    np.fill_diagonal(b, 0)
    return b


@pytest.mark.parametrize("kind", ["slit", "slis", "ease"])
@given(
    log=logs,
    past=st.floats(0.5, 20),
    future=st.floats(0.5, 20),
    ridge=st.floats(0.5, 50),
    half_life=st.sampled_from([None, 5.0]),
    predictors=st.sampled_from([None, 100]),
)
@example([(0, 1, 0), (0, 1, 1), (0, 0, DAY_MS), (0, 0, 2 * DAY_MS)], 1.0, 1.0, 1.0, 5.0, None)  # the newest is a repeat
@settings(max_examples=60, deadline=None)
def test_a_fit_is_the_ridge_regression_of_its_definition(
    kind: Kind,
    log: list[tuple[int, int, int]],
    past: float,
    future: float,
    ridge: float,
    half_life: float | None,
    predictors: int | None,
) -> None:
    log = list({(user, time_ms): (user, item, time_ms) for user, item, time_ms in log}.values())  # one event at a time
    chosen = NeighbourSettings(kind, ridge, past, future, past, half_life if kind == "slit" else None, predictors)
    events = NeighbourEvents(*np.array(log, np.int64).T)
    counts = np.bincount(events.item, minlength=ITEMS)
    items = np.flatnonzero(counts >= fitting.MIN_EVENTS).tolist()
    table = fit(events, KEYS, chosen)
    assert sorted(KEYS[items].tolist()) == table.keys.tolist()
    expected = np.maximum(plain(log, chosen, items), 0)
    actual = np.zeros((ITEMS, ITEMS))
    of_key = {int(key): index for index, key in enumerate(KEYS)}
    index = [of_key[key] for key in table.keys.tolist()]
    for row in range(len(table)):
        entries = slice(table.starts[row], table.starts[row + 1])
        columns = [index[column] for column in table.neighbours[entries]]
        actual[index[row], columns] = table.weights[entries]
    assert np.abs(actual - expected).max() < 2e-3 * max(1, np.abs(expected).max())
