"""A news site. Eight articles appear each hour, and half of the interest in one is gone after three hours.

A reader has a few topics, comes about twice a day, and reads two to five articles that are fresh, of a topic of theirs,
and appealing. Nobody reads an article twice. Now and then a reader opens an article and leaves it within seconds.
"""

from __future__ import annotations

import numpy as np

from streams.contracts import Item
from streams.datasets.worlds.steps import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    START_MS,
    Diary,
    Step,
    drawn,
    in_order,
    tastes,
)
from streams.datasets.worlds.words import NAMES, title_of

DAYS, ARTICLES_PER_HOUR, READERS, PUBLISHERS = 4, 8, 80, 12
HALF_LIFE_HOURS = 3.0
MISTAKEN = 0.15
"""The share of articles that a reader leaves at once."""
FORMS = ("{0} in {2}: what we know", "{2} waits for news of {0}", "how {0} and {1} changed {2}", "{0} stuns {2}")


def news(seed: int, people: int = READERS) -> list[Step]:
    """Return the steps of a news site."""
    rng, diary = np.random.default_rng([seed, 1]), Diary()
    count = DAYS * 24 * ARTICLES_PER_HOUR
    topic = rng.integers(0, len(NAMES), count)
    appeared = START_MS + np.sort(rng.integers(0, DAYS * DAY_MS, count))
    appeal = rng.lognormal(0, 0.8, count)
    for number in range(count):
        diary.steps.append(
            Item(
                item_id=f"article-{number}",
                title=title_of(rng, topic[number], str(rng.choice(FORMS))),
                categories=[NAMES[topic[number]]],
                provider=f"publisher {rng.integers(PUBLISHERS)}",
                timestamp=int(appeared[number]),
            )
        )
    for reader in range(people):
        taste, read = tastes(rng, len(NAMES)), np.zeros(count, bool)
        for _ in range(2 * DAYS):
            time_ms = START_MS + int(rng.integers(12 * HOUR_MS, DAYS * DAY_MS))
            _visit(diary, rng, f"reader-{reader}", time_ms, (topic, appeared, appeal), taste, read)
    return in_order(diary.steps)


def _visit(
    diary: Diary,
    rng: np.random.Generator,
    reader: str,
    time_ms: int,
    articles: tuple[np.ndarray, np.ndarray, np.ndarray],
    taste: np.ndarray,
    read: np.ndarray,
) -> None:
    topic, appeared, appeal = articles
    chosen, left = list[tuple[int, int]](), list[tuple[int, int]]()
    for _ in range(int(rng.integers(2, 6))):
        age = (time_ms - appeared) / HOUR_MS
        fresh = np.where(age > 0, np.exp2(-np.maximum(age, 0) / HALF_LIFE_HOURS), 0) * appeal * ~read
        mistaken = rng.random() < MISTAKEN
        number = drawn(rng, fresh if mistaken else fresh * taste[topic])
        read[number] = True
        (left if mistaken else chosen).append((number, time_ms))
        time_ms += int(rng.integers(MINUTE_MS, 5 * MINUTE_MS))
    for step, (number, at_ms) in enumerate(chosen):
        if step:
            diary.asks(reader, at_ms - 1, {f"article-{later}": 1.0 for later, _ in chosen[step:]})
        diary.looks(reader, f"article-{number}", at_ms, float(rng.uniform(30, 240)))
    for number, at_ms in left:
        diary.looks(reader, f"article-{number}", at_ms, float(rng.uniform(1, 5)))
