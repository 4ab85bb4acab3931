"""A small corpus whose users like one kind of item each, for tests of the baselines."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranker.evaluation.baselines.method import Budget, Corpus, Events, Method
from ranker.evaluation.baselines.methods import METHODS

ITEMS, USERS = 12, 60


def corpus() -> Corpus:
    """Items 0 to 5 are of one kind, 6 to 11 of another, by their events and by their texts."""
    texts = np.random.default_rng(1).normal(0, 0.1, (ITEMS, 8)).astype(np.float32)
    texts[:6, 0] += 1
    texts[6:, 1] += 1
    return Corpus(USERS, texts / np.linalg.norm(texts, axis=1, keepdims=True), np.zeros(ITEMS, np.int64))


def events() -> Events:
    """Even users choose among the first kind, odd ones among the second; in baskets of two."""
    random = np.random.default_rng(2)
    user = np.repeat(np.arange(USERS), 8)
    item = np.concatenate([random.integers(0, 6, 8) + 6 * (user_index % 2) for user_index in range(USERS)])
    time_ms = np.tile(np.arange(8) // 2, USERS) * 1_000_000 + user
    order = time_ms.argsort(kind="stable")
    basket = user * 4 + np.tile(np.arange(8) // 2, USERS)
    return Events(user[order], item[order], time_ms[order], basket[order])


def fitted(name: str, log: Events, **setting: Any) -> Method:
    """A baseline with its default settings but for those given, and its parts, fitted on the log."""
    kind = METHODS[name]
    parts = [fitted(part, log) for part in kind.parts]
    default = {key: values[0] for key, values in kind.grid.items()}
    method = kind(default | setting, corpus(), Budget(3, 120.0, len(log)), parts)
    method.fit(log)
    return method
