"""Advertisements. A campaign has a price that it pays for a click and a budget, and is over once that is spent.

Campaigns begin all the time and last for a day or so. A person needs something for a day or two (one topic), and then
something else; they click what fits the need. Nobody clicks the same advertisement twice, nor one that they have seen
three times without a click. Pages show four advertisements drawn at random. What a click is worth is its price, which
varies fifty-fold: so a list is judged by what the clicks would pay.
"""

from __future__ import annotations

import msgspec
import numpy as np

from streams.contracts import Item
from streams.datasets.worlds.steps import DAY_MS, MINUTE_MS, START_MS, Diary, Rng, Step, in_order
from streams.datasets.worlds.words import NAMES, title_of

DAYS, CAMPAIGNS, PEOPLE, ADVERTISERS, SLOTS = 6, 600, 80, 150, 4
TIRED = 3
"""Views after which an advertisement is not clicked any more."""
FITS, ELSE = 0.6, 0.02
"""The chance of a click on what fits the need, and on anything else."""
FORMS = ("{0}: now in {2}", "save on {0} and {1}", "everything for {0}", "your {0} from {2}")


class _Campaigns:
    """The campaigns of a world, and which of them are running."""

    def __init__(self, rng: Rng) -> None:
        self.topic = rng.integers(0, len(NAMES), CAMPAIGNS)
        self.begins = START_MS + rng.integers(-DAY_MS, DAYS * DAY_MS, CAMPAIGNS)
        self.price = rng.lognormal(0, 1.0, CAMPAIGNS).clip(0.1, 5).round(2)
        self.budget = self.price * rng.integers(4, 16, CAMPAIGNS)
        self.items = [
            Item(
                item_id=f"ad-{number}",
                title=title_of(rng, self.topic[number], str(rng.choice(FORMS))),
                categories=[NAMES[self.topic[number]]],
                provider=f"advertiser {rng.integers(ADVERTISERS)}",
                price=float(self.price[number]),
                currency="EUR",
                timestamp=int(self.begins[number]),
            )
            for number in range(CAMPAIGNS)
        ]

    def running(self, time_ms: int) -> np.ndarray:
        return np.flatnonzero((self.begins <= time_ms) & (self.budget >= self.price))

    def clicked(self, number: int, time_ms: int) -> Item | None:
        """Pay for a click. Returns the item as it is from then on, if the budget is spent."""
        self.budget[number] -= self.price[number]
        if self.budget[number] >= self.price[number]:
            return None
        return msgspec.structs.replace(self.items[number], available=False, timestamp=time_ms)


def ads(seed: int, people: int = PEOPLE) -> list[Step]:
    """Return the steps of a network of advertisements."""
    rng, diary = np.random.default_rng([seed, 4]), Diary()
    campaigns = _Campaigns(rng)
    diary.steps += campaigns.items
    needs = rng.integers(0, len(NAMES), (people, DAYS))
    seen = np.zeros((people, CAMPAIGNS), np.int64)
    visits = sorted(
        (START_MS + int(rng.integers(0, DAYS * DAY_MS)), person) for person in range(people) for _ in range(2 * DAYS)
    )
    for time_ms, person in visits:
        need = needs[person, (time_ms - START_MS) // DAY_MS // 2]
        _visit(diary, rng, campaigns, person, need, seen[person], time_ms)
    return in_order(diary.steps)


def _visit(
    diary: Diary, rng: Rng, campaigns: _Campaigns, person: int, need: int, seen: np.ndarray, time_ms: int
) -> None:
    """Some pages, each with advertisements; a person who has clicked one in this visit looks at a list of more."""
    user_id, has_clicked = f"person-{person}", False
    for _ in range(int(rng.integers(4, 9))):
        time_ms += int(rng.integers(MINUTE_MS // 2, 3 * MINUTE_MS))
        running = campaigns.running(time_ms)
        chance = np.where(campaigns.topic[running] == need, FITS, ELSE) * (seen[running] < TIRED)
        would_click = set(running[rng.random(len(running)) < chance].tolist())
        if has_clicked:
            diary.asks(user_id, time_ms - 1, {f"ad-{number}": float(campaigns.price[number]) for number in would_click})
        shown = rng.choice(running, min(SLOTS, len(running)), replace=False).tolist()
        diary.sees(user_id, [f"ad-{number}" for number in shown], time_ms)
        seen[shown] += 1
        for number in shown:
            if number in would_click:
                has_clicked = True
                seen[number] = TIRED
                diary.looks(user_id, f"ad-{number}", time_ms + 1)
                if over := campaigns.clicked(number, time_ms + 2):
                    diary.steps.append(over)
