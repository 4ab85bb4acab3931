"""A synthetic shop of films in which only the knowledge graph says what a user likes, determined by a seed.

A user likes the films of one director. Titles are names without a meaning, there is no category and no price, and few
users like the same director, so neither texts nor counts tell. The graph has the director of each film among its
actors, its country and its year, which no taste follows.
"""

from __future__ import annotations

import random

from ranker.evaluation.interactions import Interaction
from streams.contracts import Item, Triple
from streams.datasets.title_shop import DAY_MS, START_MS

DIRECTORS, FILMS_EACH, USERS_EACH = 60, 16, 2
ACTORS, COUNTRIES, YEARS = 200, 8, 30
VISITS = 8
ELSEWHERE = 0.2
"""Share of the visits to any film."""
_SYLLABLES = ("ba", "do", "fi", "ga", "hu", "ka", "le", "mi", "no", "pe", "ri", "so", "ta", "vu", "wa", "zo")


def knowledge_shop(seed: int) -> tuple[list[Item], list[Interaction], list[Triple]]:
    """Films, one visit a day of each user to a film that is new to them, and what the graph knows."""
    rng = random.Random(seed)
    films = list(range(DIRECTORS * FILMS_EACH))
    titles = _titles(len(films), rng)
    rng.shuffle(films)  # so that an id says nothing either
    items = [Item(item_id=f"film-{number}", title=titles[number]) for number in sorted(films)]
    triples = [_named(f"director-{number}", rng) for number in range(DIRECTORS)]
    events: list[Interaction] = []
    for director in range(DIRECTORS):
        his = films[director * FILMS_EACH : (director + 1) * FILMS_EACH]
        for film in his:
            triples += _facts(f"film-{film}", f"director-{director}", rng)
        for number in range(USERS_EACH):
            user, start_ms = f"u{director}-{number}", START_MS + rng.randrange(30 * DAY_MS)
            visited = rng.sample(his, VISITS)
            visited = [rng.choice(films) if rng.random() < ELSEWHERE else film for film in visited]
            for visit, film in enumerate(dict.fromkeys(visited)):
                time_ms = start_ms + visit * DAY_MS
                events.append(Interaction(user, f"film-{film}", time_ms, "click", f"{user}-{visit}"))
    return items, events, triples


def _facts(film: str, director: str, rng: random.Random) -> list[Triple]:
    actors = rng.sample(range(ACTORS), 3)
    return [
        Triple(head=film, relation="directed_by", tail=director),
        *(Triple(head=film, relation="with", tail=f"actor-{actor}") for actor in actors),
        Triple(head=film, relation="made_in", tail=f"country-{rng.randrange(COUNTRIES)}"),
        Triple(head=film, relation="released_in", tail=f"year-{1990 + rng.randrange(YEARS)}"),
    ]


def _named(node: str, rng: random.Random) -> Triple:
    return Triple(head=node, relation="name", tail=" ".join(_word(rng).title() for _ in range(2)))


def _titles(count: int, rng: random.Random) -> list[str]:
    titles: dict[str, None] = {}
    while len(titles) < count:
        titles[f"{_word(rng).title()} {_word(rng)}"] = None
    return list(titles)


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3)))
