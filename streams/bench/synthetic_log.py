"""Write a large synthetic log as files: items, and clicks and purchases in parts by time.

    python -m streams.bench.synthetic_log FOLDER 10000000 500000 100000

writes 10,000,000 events of 500,000 users about 100,000 items: `items.jsonl`, `clicks-00.jsonl`, `purchases-00.jsonl`
and so on. Users visit a few favourite groups of items; within a group, popularity is Zipf's. The shop of
`streams.datasets.shop` has finer tastes, at a thousand times the memory for each user. Knows no pipeline.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DAY_MS, START_MS = 86_400_000, 1_767_225_600_000  # 2026-01-01
DAYS = 90
PARTS = 10
GROUP_ITEMS = 50
VISIT_EVENTS = 4
"""Mean events of a visit."""
CLICK_MS = 40_000
"""Mean time between two events of a visit."""
FAVOURITES = (0.6, 0.9, 1.0)
"""Shares of the visits, summed, that go to a user's first, second and third favourite group."""
PURCHASES = 0.1
ACTIVITY_SPREAD = 1.0
SKEW = 2.5
"""Exponent of a uniform number: an item's place in its group. About Zipf's law with exponent .6."""
SEED = 7
COLOURS = ("red", "blue", "green", "black", "white", "grey", "yellow", "brown", "pink", "orange")
KINDS = ("jacket", "lamp", "mug", "tent", "shoes", "chair", "knife", "radio", "scarf", "bag", "clock", "bottle")


class _Events(NamedTuple):
    """Events of one part, in columns, by time."""

    time_ms: npt.NDArray[np.int64]
    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    visit: npt.NDArray[np.int64]
    is_purchase: npt.NDArray[np.bool_]


def write(folder: Path, events: int, users: int, items: int, seed: int = SEED) -> dict[str, list[Path]]:
    """Write the files.

    Returns
    -------
    dict of str to list of Path
        Topic -> its files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: dict[str, list[Path]] = {"items": [folder / "items.jsonl"], "clicks": [], "purchases": []}
    with paths["items"][0].open("w", encoding="utf-8") as file:
        file.writelines(_item_lines(items))
    for number, part in enumerate(_parts(events, users, items, np.random.default_rng(seed))):
        for topic, chosen in (("clicks", ~part.is_purchase), ("purchases", part.is_purchase)):
            paths[topic].append(folder / f"{topic}-{number:02d}.jsonl")
            with paths[topic][-1].open("w", encoding="utf-8") as file:
                file.writelines(_event_lines(part, np.flatnonzero(chosen)))
    return paths


def _parts(events: int, users: int, items: int, rng: np.random.Generator) -> Iterator[_Events]:
    """Yield the events of one period after the other."""
    groups = -(-items // GROUP_ITEMS)
    activity = np.cumsum(rng.lognormal(0, ACTIVITY_SPREAD, users))
    favourites = rng.integers(groups, size=(users, len(FAVOURITES)))
    visits = 0
    for part in range(PARTS):
        share = events * (part + 1) // PARTS - events * part // PARTS
        lengths = rng.geometric(1 / VISIT_EVENTS, share)
        lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), share)) + 1]
        user = np.searchsorted(activity, rng.random(len(lengths)) * activity[-1])
        group = favourites[user, np.searchsorted(FAVOURITES, rng.random(len(lengths)))]
        start_ms = START_MS + DAYS * DAY_MS // PARTS * part + rng.integers(DAYS * DAY_MS // PARTS, size=len(lengths))
        visit = np.repeat(np.arange(len(lengths)), lengths)[:share]
        place = (GROUP_ITEMS * rng.random(share) ** SKEW).astype(np.int64)
        pauses = rng.exponential(CLICK_MS, share).astype(np.int64)
        passed = np.cumsum(pauses)
        first = np.minimum(np.cumsum(lengths) - lengths, share - 1)
        time_ms = start_ms[visit] + passed - passed[first][visit]
        order = np.argsort(time_ms, kind="stable")
        yield _Events(
            time_ms[order],
            user[visit][order],
            np.minimum(group[visit] * GROUP_ITEMS + place, items - 1)[order],
            visits + visit[order],
            (rng.random(share) < PURCHASES)[order],
        )
        visits += len(lengths)


def _event_lines(events: _Events, chosen: npt.NDArray[np.intp]) -> Iterator[str]:
    columns = (chosen, *(column[chosen] for column in (events.time_ms, events.user, events.item, events.visit)))
    for number, time_ms, user, item, visit in zip(*(column.tolist() for column in columns), strict=True):
        yield (
            f'{{"event_id": "v{visit}-{number}", "user_id": "user-{user}", "item_id": "item-{item}", '
            f'"timestamp": {time_ms}, "session_id": "v{visit}"}}\n'
        )


def _item_lines(items: int) -> Iterator[str]:
    for number in range(items):
        group, place = divmod(number, GROUP_ITEMS)
        kind, colour = KINDS[group % len(KINDS)], COLOURS[place % len(COLOURS)]
        yield (
            f'{{"item_id": "item-{number}", "title": "{colour.capitalize()} {kind} number {place} of series {group}", '
            f'"categories": ["series {group}"], "price": {5 + (number * 37) % 200}.0, "currency": "EUR"}}\n'
        )


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
