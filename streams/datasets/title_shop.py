"""A synthetic shop in which only titles say what a user likes, determined by a seed.

Each taste is a kind of thing and a look, and few users have it, or one: no category, no price, and hardly two users who
meet the same items, so counts say nothing. A ranker that is to serve any shop must know this one, too.
"""

from __future__ import annotations

import random
from itertools import product

from ranker.evaluation.interactions import Interaction
from streams.contracts import Item

KINDS = (
    "scarf",
    "frying pan",
    "desk",
    "suitcase",
    "sofa",
    "pencil case",
    "kettle",
    "raincoat",
    "mirror",
    "candle",
    "pillow",
    "rug",
    "apron",
    "lunch box",
    "bird feeder",
    "jigsaw puzzle",
    "phone case",
    "wine glass",
    "garden gnome",
    "bath towel",
)
LOOKS = (
    "tartan",
    "zebra print",
    "gingham",
    "paisley",
    "navy blue",
    "copper",
    "pastel pink",
    "knitted",
    "wooden",
    "vintage",
    "neon green",
    "tropical",
)
NAMES = [
    "Rome",
    "Bonn",
    "Cork",
    "Lyon",
    "Graz",
    "Bern",
    "Riga",
    "Split",
    "Nantes",
    "Leeds",
    "Sofia",
    "Bilbao",
    "Faro",
    "Aarhus",
    "Ghent",
    "Tartu",
]
START_MS = 1_767_225_600_000  # 2026-01-01
DAY_MS = 86_400_000


def title_shop(seed: int) -> tuple[list[Item], list[Interaction]]:
    """Items, and one visit a day of each user to an item of the user's taste that is new to them.

    Parameters
    ----------
    seed : int
        Determines how many kinds, looks, items and users of a taste there are, and in which order a title names them.
    """
    rng = random.Random(seed)
    kinds, looks = rng.sample(KINDS, rng.randint(8, 14)), rng.sample(LOOKS, rng.randint(5, 9))
    each, users = rng.randint(8, 16), rng.choice((1, 1, 2))
    visits, name_first = rng.randint(4, each - 2), rng.random() < 0.5
    items: list[Item] = []
    events: list[Interaction] = []
    for taste, (kind, look) in enumerate(product(kinds, looks)):
        mine = [
            Item(
                item_id=f"{taste}-{name}",
                title=f"{name} {look} {kind}" if name_first else f"{look} {kind} {name}",
            )
            for name in rng.sample(NAMES, each)
        ]
        items += mine
        for number in range(users):
            user, start_ms = f"u{taste}-{number}", START_MS + rng.randrange(30 * DAY_MS)
            for visit, item in enumerate(rng.sample(mine, visits)):
                time_ms = start_ms + visit * DAY_MS
                events.append(Interaction(user, item.item_id, time_ms, "click", f"{user}-{visit}"))
    return items, events
