"""A video site. What a thumbnail promises is not what a video keeps: most of what is opened is left soon.

A viewer has a few topics. They open videos by the thumbnails, of any topic; a video of a topic of theirs and of a good
make they watch to its end, which takes minutes and sends an event `complete`. The gaudy thumbnails belong to the poor
videos more often than not. A video that was watched to its end is not watched again.
"""

from __future__ import annotations

import numpy as np

from streams.contracts import Item
from streams.datasets.worlds.steps import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, START_MS, Diary, Step, drawn, in_order
from streams.datasets.worlds.steps import tastes as tastes_of
from streams.datasets.worlds.words import NAMES, title_of

VIDEOS, VIEWERS, VISITS, DAYS, CHANNELS = 500, 80, 7, 14, 60
FORMS = ("{0} explained", "the truth about {0} in {2}", "my year with {0} and {1}", "{0}, {1} and a day in {2}")


def video(seed: int, people: int = VIEWERS) -> list[Step]:
    """Return the steps of a video site."""
    rng, diary = np.random.default_rng([seed, 2]), Diary()
    topic, quality = rng.integers(0, len(NAMES), VIDEOS), rng.random(VIDEOS)
    gaudy = np.exp(2.0 * (0.6 * (1 - quality) + 0.4 * rng.random(VIDEOS)))
    length_s = rng.uniform(240, 1_200, VIDEOS)
    for number in range(VIDEOS):
        diary.steps.append(
            Item(
                item_id=f"video-{number}",
                title=title_of(rng, topic[number], str(rng.choice(FORMS))),
                categories=[NAMES[topic[number]]],
                provider=f"channel {rng.integers(CHANNELS)}",
                timestamp=START_MS - int(rng.integers(0, 60 * DAY_MS)),
            )
        )
    for viewer in range(people):
        taste, ended = tastes_of(rng, len(NAMES)), np.zeros(VIDEOS, bool)
        for visit in range(VISITS):
            time_ms = START_MS + int((visit + rng.random()) * DAYS / VISITS * DAY_MS) + HOUR_MS
            opened = []
            for _ in range(int(rng.integers(4, 9))):
                number = drawn(rng, gaudy * (0.1 + taste[topic]) * ~ended)
                to_end = rng.random() < taste[topic[number]] * quality[number] ** 0.5 * 1.3
                dwell_s = length_s[number] if to_end else rng.uniform(5, 55)
                time_ms += int(dwell_s * SECOND_MS) + MINUTE_MS // 4
                ended[number] |= to_end
                opened.append((number, to_end, dwell_s, time_ms))
            _write(diary, f"viewer-{viewer}", opened)
    return in_order(diary.steps)


def _write(diary: Diary, viewer: str, opened: list[tuple[int, bool, float, int]]) -> None:
    """Write a visit: before each video the viewer wants those that they will watch to the end from now on."""
    for step, (number, to_end, dwell_s, time_ms) in enumerate(opened):
        if step and to_end:
            wanted = {f"video-{later}": 1.0 for later, is_watched, *_ in opened[step:] if is_watched}
            diary.asks(viewer, time_ms - round(dwell_s * SECOND_MS), wanted)
        diary.looks(viewer, f"video-{number}", time_ms, dwell_s)
        if to_end:
            diary.does(viewer, "complete", f"video-{number}", time_ms + 1)
