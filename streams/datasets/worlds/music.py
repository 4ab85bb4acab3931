"""A music service. Six of ten songs that are played were played before by the same listener.

Which of them follows how often and how lately each was played (Anderson et al. 2014), and how much the listener likes
it. The others are new to the listener: of an artist whom they like, mostly. A new song of another artist is skipped
within seconds.
"""

from __future__ import annotations

import numpy as np

from streams.contracts import Item
from streams.datasets.worlds.steps import DAY_MS, HOUR_MS, SECOND_MS, START_MS, Diary, Rng, Step, drawn, in_order
from streams.datasets.worlds.words import NAMES, PLACES, title_of

ARTISTS, SONGS_EACH, LISTENERS, VISITS, DAYS = 50, 16, 40, 14, 21
SONGS = ARTISTS * SONGS_EACH
AGAIN, STRANGE = 0.6, 0.15
"""The share of songs that were played before, and that of songs of any artist."""
FORMS = ("{0}", "{0} blues", "song of the {0}", "{2} {0}", "{0} and {1}")


def music(seed: int, people: int = LISTENERS) -> list[Step]:
    """Return the steps of a music service."""
    rng, diary = np.random.default_rng([seed, 3]), Diary()
    style = rng.integers(0, len(NAMES), ARTISTS)
    artist = np.repeat(np.arange(ARTISTS), SONGS_EACH)
    appeal = rng.lognormal(0, 1.0, SONGS)
    for number in range(SONGS):
        diary.steps.append(
            Item(
                item_id=f"song-{number}",
                title=title_of(rng, style[artist[number]], str(rng.choice(FORMS))),
                brand=f"The {PLACES[artist[number] % len(PLACES)]} {'Band' if artist[number] < 25 else 'Trio'}",
                categories=[f"{NAMES[style[artist[number]]]} songs"],
                timestamp=START_MS - int(rng.integers(0, 900 * DAY_MS)),
            )
        )
    for listener in range(people):
        own = appeal * rng.lognormal(0, 1.0, SONGS)
        of_liked = own * np.isin(artist, rng.choice(ARTISTS, 6, replace=False))
        played: dict[int, list[int]] = {}
        for visit in range(VISITS):
            time_ms = START_MS + int((visit + rng.random() * 0.9) * DAYS / VISITS * DAY_MS) + HOUR_MS
            _visit(diary, rng, f"listener-{listener}", time_ms, (own, of_liked), played)
    return in_order(diary.steps)


def _visit(
    diary: Diary,
    rng: Rng,
    listener: str,
    time_ms: int,
    appeals: tuple[np.ndarray, np.ndarray],
    played: dict[int, list[int]],
) -> None:
    heard: list[tuple[int, int, bool]] = []
    for _ in range(int(rng.integers(5, 10))):
        number, is_liked = _next(rng, time_ms, appeals, played, {song for song, *_ in heard})
        time_ms += int(rng.uniform(150, 260) if is_liked else rng.uniform(5, 25)) * SECOND_MS
        heard.append((number, time_ms, is_liked))
        if is_liked:
            played.setdefault(number, []).append(time_ms)
    for step, (number, at_ms, is_liked) in enumerate(heard):
        if step and is_liked:
            diary.asks(
                listener, heard[step - 1][1] + 1, {f"song-{one}": 1.0 for one, _, liked in heard[step:] if liked}
            )
        diary.looks(listener, f"song-{number}", at_ms, 200.0 if is_liked else 15.0)


def _next(
    rng: Rng,
    time_ms: int,
    appeals: tuple[np.ndarray, np.ndarray],
    played: dict[int, list[int]],
    heard: set[int],
) -> tuple[int, bool]:
    """Draw a song that was not heard in this visit, and say whether the listener likes it."""
    own, of_liked = appeals
    known = [song for song in played if song not in heard]
    if known and rng.random() < AGAIN:
        strength = [own[song] * sum(((time_ms - at) / HOUR_MS) ** -0.5 for at in played[song]) for song in known]
        return known[drawn(rng, np.array(strength))], True
    new = np.ones(len(own), bool)
    new[[*played, *heard]] = False
    strange = rng.random() < STRANGE or not (of_liked * new).any()
    number = drawn(rng, (own if strange else of_liked) * new)
    return number, bool(of_liked[number])
