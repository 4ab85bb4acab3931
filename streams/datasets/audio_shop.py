"""A synthetic shop of recordings where titles tell least: a number, the time of day and reviews do; set by a seed.

Titles name the genre and nothing else of interest. The world assumes:

- Each user likes a length. A recording's minutes are an attribute; no title and no genre tells them.
- Half of the genres are listened to in the morning, the others in the evening, by all users. The search that begins a
  visit names nothing, but its `context` has the `time_of_day`.
- A user finds one genre in two bad, but knows so only after listening. The review at the end says it in English, as
  people say it; then the user leaves this genre alone. Nothing else tells: a bad recording is heard to its end, too.

A ranker that does not read one of the three knows of the other two as much as before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

from streams.contracts import Click, Item, Search, UserEvent
from streams.datasets.title_shop import DAY_MS, START_MS

GENRES = (
    "crime novel",
    "love story",
    "ghost story",
    "cookery course",
    "history lecture",
    "language lesson",
    "science talk",
    "fairy tale",
    "war memoir",
    "comedy show",
    "guided meditation",
    "football report",
)
USED_GENRES, EACH = 8, 48
USERS, VISITS = 300, 6
MEDIAN_MINUTES, SPREAD = 40.0, 0.7
"""Of the lengths, which are lognormal; the spread is the standard deviation of the logarithm."""
BAND = 0.05
"""How far, in ranks from 0 to 1, a length may be from the one that a user likes."""
HOUR_MS, MINUTE_MS = 3_600_000, 60_000
BEGINS = {"morning": 7, "evening": 19}
"""The hour of the day at which visits begin."""
SEARCHES = ("something new", "recommended for you", "just added", "what to listen to", "popular now", "surprise me")
GOOD = (
    "I loved every minute of it.",
    "Wonderful voice, I will listen to it again.",
    "Very good, well told and never slow.",
    "Exactly what I needed, great.",
    "A pleasure from beginning to end.",
    "Clever and funny, I recommend it.",
    "Nicely read. I am happy with it.",
    "Better than I had hoped, thank you.",
    "Two evenings, one sitting, no regrets.",
    "Good work by everybody involved.",
)
BAD = (
    "Terribly boring, a waste of time.",
    "I hated the voice and the noise behind it.",
    "Bad sound, worse text.",
    "What a disappointment, not for me.",
    "Dull and far too slow, I nearly gave up.",
    "Annoying from the first sentence on.",
    "Poorly read, and the end is awful.",
    "I did not enjoy it at all.",
    "Never again. Ugly and stupid.",
    "Half an hour would have been too much of this.",
)


def audio_shop(seed: int) -> tuple[list[Item], list[tuple[str, Click | Search]]]:
    """Recordings, and the messages of all users by topic, in no order of time.

    Parameters
    ----------
    seed : int
        Determines the genres and when each is listened to, the lengths, the tastes and the visits.
    """
    rng = random.Random(seed)
    genres = rng.sample(GENRES, USED_GENRES)
    half = USED_GENRES // 2
    heard = {"morning": genres[:half], "evening": genres[half:]}
    minutes = sorted(rng.lognormvariate(0, SPREAD) * MEDIAN_MINUTES for _ in range(USED_GENRES * EACH))
    ranks = rng.sample(range(len(minutes)), len(minutes))
    items, shelves = list[Item](), dict[str, list[tuple[float, str]]]()
    for number, (rank, (genre, volume)) in enumerate(zip(ranks, product(genres, range(EACH)), strict=True)):
        attributes = {"minutes": round(minutes[rank], 1)}
        items.append(Item(item_id=f"r{number}", title=f"{genre.capitalize()} {volume + 1}", attributes=attributes))
        shelves.setdefault(genre, []).append((rank / len(minutes), items[-1].item_id))
    messages = [message for number in range(USERS) for message in _visits(f"u{number}", heard, shelves, rng)]
    return items, messages


def _visits(
    user: str,
    heard: dict[str, list[str]],
    shelves: dict[str, list[tuple[float, str]]],
    rng: random.Random,
) -> Iterator[tuple[str, Click | Search]]:
    """One visit a day: a search, a recording that is new to the user, and at its end a review."""
    length = rng.uniform(BAND, 1 - BAND)
    found_bad = {genre for genres in heard.values() for genre in rng.sample(genres, len(genres) // 2)}
    met, left_alone = set[str](), set[str]()
    for visit in range(VISITS):
        time_of_day = rng.choice(list(heard))
        wanted = [
            (genre, item)
            for genre in heard[time_of_day]
            for rank, item in shelves[genre]
            if genre not in left_alone and abs(rank - length) <= BAND and item not in met
        ]
        if not wanted:
            continue
        genre, item = rng.choice(wanted)
        met.add(item)
        begin_ms = START_MS + visit * DAY_MS + BEGINS[time_of_day] * HOUR_MS + rng.randrange(2 * HOUR_MS)
        session, context = f"{user}-{visit}", {"time_of_day": time_of_day}
        about: dict[str, Any] = {"user_id": user, "session_id": session, "context": context}
        yield (
            "searches",
            Search(event_id=f"{session}-search", text=rng.choice(SEARCHES), timestamp=begin_ms, **about),
        )
        yield "clicks", Click(event_id=f"{session}-click", item_id=item, timestamp=begin_ms + MINUTE_MS, **about)
        review = rng.choice(BAD if genre in found_bad else GOOD)
        end_ms = begin_ms + HOUR_MS
        yield (
            "events",
            UserEvent(event_id=f"{session}-end", item_id=item, timestamp=end_ms, type="complete", text=review, **about),
        )
        if genre in found_bad:
            left_alone.add(genre)
