"""A synthetic shop whose items are drawn. A taste is a colour, a shape and a pattern; titles say nothing of them."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

from PIL import Image, ImageDraw

from ranker.evaluation.interactions import Interaction
from streams.contracts import Item
from streams.datasets.event_log import EventLog

COLOURS = {"red": (200, 40, 40), "green": (40, 150, 60), "blue": (40, 70, 200), "yellow": (230, 200, 40),
           "purple": (130, 50, 160)}  # fmt: skip
SHAPES = ("circle", "square", "triangle")
PATTERNS = ("plain", "stripes", "dots")
NAMES = ("Oslo", "Lima", "Bari", "Kyoto", "Quito", "Accra", "Turin", "Porto", "Delhi", "Malmo", "Cairo", "Perth")
SIDE, DAY_MS = 32, 86_400_000
OF_A_TASTE, USERS, VISITS = 24, 3, 7


def drawn_shop(seed: int, folder: Path) -> EventLog:
    """The shop, with the picture of each item in a folder; one visit a day of each user to an item of their taste."""
    rng = random.Random(seed)
    items: list[Item] = []
    events: list[Interaction] = []
    for taste, (colour, shape, pattern) in enumerate(product(COLOURS, SHAPES, PATTERNS)):
        mine = []
        for number in range(OF_A_TASTE):
            item_id = f"{taste}-{number}"
            draw(rng, COLOURS[colour], shape, pattern).save(folder / f"{item_id}.png")
            title = f"{rng.choice(NAMES)} {rng.choice(NAMES)} {rng.randrange(1_000)}"
            mine.append(Item(item_id=item_id, title=title, image=f"{item_id}.png"))
        items += mine
        for number in range(USERS):
            user, start_ms = f"u{taste}-{number}", rng.randrange(30 * DAY_MS)
            for visit, item in enumerate(rng.sample(mine, VISITS)):
                time_ms = start_ms + visit * DAY_MS
                events.append(Interaction(user, item.item_id, time_ms, "click", f"{user}-{visit}"))
    return EventLog(items, events, [], {})


def draw(rng: random.Random, colour: tuple[int, int, int], shape: str, pattern: str) -> Image.Image:
    """One picture, which varies in size, place, tint and background."""
    tint = tuple(min(255, max(0, part + rng.randint(-25, 25))) for part in colour)
    back = rng.randint(215, 255)
    picture = Image.new("RGB", (SIDE, SIDE), (back, back, back))
    fill = Image.new("RGB", (SIDE, SIDE), tint)
    on_fill = ImageDraw.Draw(fill)
    step = rng.randint(6, 7)
    for at in range(rng.randint(0, 4), SIDE, step):
        if pattern == "stripes":
            on_fill.line((0, at, SIDE, at), fill="white", width=3)
        elif pattern == "dots":
            for across in range(2, SIDE, step):
                on_fill.ellipse((across, at, across + 3, at + 3), fill="white")
    size = rng.randint(20, 27)
    left, top = rng.randint(2, SIDE - size - 2), rng.randint(2, SIDE - size - 2)
    right, bottom = left + size, top + size
    mask = Image.new("1", (SIDE, SIDE), 0)
    on_mask = ImageDraw.Draw(mask)
    if shape == "circle":
        on_mask.ellipse((left, top, right, bottom), fill=1)
    elif shape == "square":
        on_mask.rectangle((left, top, right, bottom), fill=1)
    else:
        on_mask.polygon(((left, bottom), (right, bottom), ((left + right) // 2, top)), fill=1)
    picture.paste(fill, mask=mask)
    return picture
