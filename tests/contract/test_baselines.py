"""One suite over every baseline, on a small corpus with two kinds of users."""

from __future__ import annotations

import numpy as np
import pytest

from ranker.evaluation.baselines import sasrec
from ranker.evaluation.baselines.method import Events, Query
from ranker.evaluation.baselines.methods import METHODS
from tests.baseline_corpus import ITEMS, USERS, events, fitted

PERSONAL = [name for name in METHODS if name not in ("random", "popularity", "popularity-recent", "recency")]
AS_OF_MS = 5_000_000


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """SASRec trains for some steps only, where its skill is not tested."""
    monkeypatch.setattr(sasrec, "LEAST_STEPS", 30)


quick = pytest.mark.usefixtures("few_steps")


def queries(log: Events, count: int) -> list[Query]:
    return [Query(user, log[log.user == user], AS_OF_MS) for user in range(count)]


@quick
@pytest.mark.parametrize("name", METHODS)
def test_scores_are_finite_and_the_same_query_has_the_same_scores(name: str) -> None:
    log = events()
    method = fitted(name, log)
    scores = method.scores(queries(log, 5))
    assert scores.shape == (5, ITEMS)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert np.array_equal(scores, method.scores(queries(log, 5)))


@quick
@pytest.mark.parametrize("name", METHODS)
def test_scores_depend_on_the_query_alone(name: str) -> None:
    """The same query alone and among others; but for rounding."""
    log = events()
    method = fitted(name, log)
    together = method.scores(queries(log, 5))
    for query, row in zip(queries(log, 5), together, strict=True):
        np.testing.assert_allclose(method.scores([query])[0], row, rtol=1e-4, atol=1e-5)


@quick
@pytest.mark.parametrize("name", METHODS)
def test_it_is_fitted_again_as_the_log_grows(name: str) -> None:
    log = events()
    method = fitted(name, log[: len(log) // 2])
    for part in method.fitted_parts:
        part.fit(log)
    method.fit(log)
    assert np.isfinite(method.scores(queries(log, 5))).all()


@quick
@pytest.mark.parametrize("name", METHODS)
def test_a_user_without_an_event_at_the_fit_is_ranked_by_their_history(name: str) -> None:
    log = events()
    new = USERS - 1
    method = fitted(name, log[log.user != new])
    scores = method.scores([Query(new, log[log.user == new], AS_OF_MS)])
    assert np.isfinite(scores).all()


@quick
@pytest.mark.parametrize("name", [name for name in METHODS if name != "bpr"])
def test_the_seed_determines_the_scores(name: str) -> None:
    """Not those of BPR, which `implicit` trains with threads that race for the same factors."""
    log = events()
    first, second = (fitted(name, log).scores(queries(log, 5)) for _ in range(2))
    assert np.allclose(first, second, rtol=1e-3, atol=1e-4)


@quick
@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [(name, key, value) for name, kind in METHODS.items() for key, values in kind.grid.items() for value in values[1:]],
)
def test_every_value_of_the_grid_can_be_fitted(name: str, setting: str, value: object) -> None:
    log = events()
    method = fitted(name, log, **{setting: value})
    assert np.isfinite(method.scores(queries(log, 3))).all()


@pytest.mark.parametrize("name", PERSONAL)
def test_a_personal_baseline_prefers_the_users_kind(name: str) -> None:
    log = events()
    setting = {"iterations": 200, "learning_rate": 0.1} if name == "bpr" else {}
    scores = fitted(name, log, **setting).scores(queries(log, 10))
    for user, row in enumerate(scores):
        own = np.arange(6) + 6 * (user % 2)
        others = np.setdiff1d(np.arange(ITEMS), own)
        assert row[own].mean() > row[others].mean(), user
