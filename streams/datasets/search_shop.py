"""A synthetic shop whose users search and say what they do not want, by dislikes or by a wish, determined by a seed.

What a user looks for in a visit follows the search before it and nothing else. What each user dislikes, a material,
follows from the items that the user disliked, and from the wish if users make one. A ranker that reads neither knows
only what users look at as a rule.
"""

from __future__ import annotations

import random
from itertools import product

from encoders.events.entries import Event, SearchQuery, item_key, query_key
from ranker.evaluation.interactions import Interaction, Interactions
from ranker.evaluation.signs import SaidWish, Sign
from streams.contracts import Item
from streams.datasets.title_shop import DAY_MS, KINDS, LOOKS, START_MS

MATERIALS = ("wool", "leather", "bamboo", "velvet", "steel", "linen")
USERS, VISITS, CLICKS = 150, 5, 3
SEARCHES = 0.8
"""The share of visits that begin with a search; the others are to a thing that the user likes as a rule."""
MINUTE_MS = 60_000


def search_shop(seed: int, with_wishes: bool = False) -> tuple[list[Item], Interactions]:
    """Items, and the visits of users, each with the signs before it: a search, and a dislike at its end.

    With wishes, each user says in words which material shall not be there, before the first visit.
    """
    rng = random.Random(seed)
    kinds, looks = rng.sample(KINDS, 12), rng.sample(LOOKS, 7)
    titles = {
        f"{kind}-{look}-{material}".replace(" ", "-"): (kind, look, material)
        for kind, look, material in product(kinds, looks, MATERIALS)
    }
    items = [
        Item(item_id=item_id, title=" ".join((look, material, kind)))
        for item_id, (kind, look, material) in titles.items()
    ]
    events: list[Interaction] = []
    signs: list[Sign] = []
    for user in (f"u{number}" for number in range(USERS)):
        usual, hated = rng.choice(kinds), rng.choice(MATERIALS)
        if with_wishes:
            signs.append(Sign(START_MS - 1, user, wish=SaidWish(f"{user}-wish", f"no {hated}")))
        for visit in range(VISITS):
            time_ms = START_MS + visit * DAY_MS + rng.randrange(DAY_MS // 2)
            kind, look = usual, rng.choice(looks)
            if rng.random() < SEARCHES:
                kind = rng.choice(kinds)
                text = rng.choice((f"{look} {kind}", f"{kind} {look}", f"{kind}, {look}"))
                signs.append(Sign(time_ms, user, Event(query_key(text), time_ms, "search", query=SearchQuery(text))))
            wanted = [i for i, (*what, material) in titles.items() if what == [kind, look] and material != hated]
            for step, item in enumerate(rng.sample(wanted, CLICKS), 1):
                events.append(Interaction(user, item, time_ms + step * MINUTE_MS, "click", f"{user}-{visit}"))
            refused = rng.choice([i for i, (what, _, material) in titles.items() if (what, material) == (kind, hated)])
            at_ms = time_ms + (CLICKS + 1) * MINUTE_MS
            signs.append(Sign(at_ms, user, Event(item_key(refused), at_ms, "dislike")))
    log = Interactions.of(events)
    log.signs = sorted(signs, key=lambda sign: sign.order)
    return items, log
