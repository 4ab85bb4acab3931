"""A synthetic shop of recordings where titles tell least: a number, the time of day and reviews do; set by a seed.

What a user listens to has a place and a genre, which the title names. The world assumes:

- Each user likes two places and a length. A recording's minutes are an attribute; no title and no genre tells them.
- Half of the genres are listened to in the morning, the others in the evening, by all users. The search that begins a
  visit names nothing, but its `context` has the `time_of_day`.
- A user finds one genre in two bad, but knows so only after listening. The review at the end says it in English, as
  people say it; then the user leaves this genre alone. Nothing else tells: a bad recording is heard to its end, too.

A ranker that does not read one of the three knows the rest of the taste as well as before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

from streams.contracts import Click, Item, Search, UserEvent
from streams.datasets.title_shop import DAY_MS, NAMES, START_MS

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
USED_GENRES, USED_PLACES, EACH = 8, 6, 8
"""`EACH` recordings have the same title."""
USERS, VISITS, LIKED_PLACES = 200, 10, 2
MEDIAN_MINUTES, SPREAD = 40.0, 0.7
"""Of the lengths, which are lognormal; the spread is the standard deviation of the logarithm."""
BAND = 0.125
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
    genres, places = rng.sample(GENRES, USED_GENRES), rng.sample(NAMES, USED_PLACES)
    half = USED_GENRES // 2
    heard = {"morning": genres[:half], "evening": genres[half:]}
    minutes = sorted(rng.lognormvariate(0, SPREAD) * MEDIAN_MINUTES for _ in range(USED_GENRES * USED_PLACES * EACH))
    ranks = list(range(len(minutes)))
    rng.shuffle(ranks)
    kinds = [(genre, place) for genre, place, _ in product(genres, places, range(EACH))]
    items = [
        Item(item_id=f"r{number}", title=f"{place} {genre}", attributes={"minutes": round(minutes[rank], 1)})
        for number, ((genre, place), rank) in enumerate(zip(kinds, ranks, strict=True))
    ]
    shelves: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for item, kind, rank in zip(items, kinds, ranks, strict=True):
        shelves.setdefault(kind, []).append((rank / len(items), item.item_id))
    messages = [message for number in range(USERS) for message in _visits(f"u{number}", heard, places, shelves, rng)]
    return items, messages


def _visits(
    user: str,
    heard: dict[str, list[str]],
    places: list[str],
    shelves: dict[tuple[str, str], list[tuple[float, str]]],
    rng: random.Random,
) -> Iterator[tuple[str, Click | Search]]:
    """One visit a day: a search, a recording that is new to the user, and at its end a review."""
    liked, length = rng.sample(places, LIKED_PLACES), rng.uniform(BAND, 1 - BAND)
    found_bad = {genre for genres in heard.values() for genre in rng.sample(genres, len(genres) // 2)}
    met, left_alone = set[str](), set[str]()
    for visit in range(VISITS):
        time_of_day = rng.choice(list(heard))
        wanted = [
            (genre, item)
            for genre, place in product(heard[time_of_day], liked)
            for rank, item in shelves[genre, place]
            if genre not in left_alone and abs(rank - length) <= BAND and item not in met
        ]
        if not wanted:
            continue
        genre, item = rng.choice(wanted)
        met.add(item)
        begin_ms = START_MS + visit * DAY_MS + BEGINS[time_of_day] * HOUR_MS + rng.randrange(2 * HOUR_MS)
        session, context = f"{user}-{visit}", {"time_of_day": time_of_day}
        about = {"user_id": user, "session_id": session, "context": context}
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
