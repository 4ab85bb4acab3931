"""One person of a generated month: what they like, what bores them, when they come, and whether they stay.

All chance of a person is drawn by the seed, the person and the day, never by what they were shown. So the same people
live under each ranker: where two rankers show the same, the same happens. Knows no ranker.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, log2
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streams.datasets.month.assortment import TOPICS, Assortment
from streams.datasets.month.rates import Rates

SPREAD = 1.5
"""Standard deviation of the tastes z, of which `tanh(z)` counts: a person likes about four of 16 topics well."""
KNOWN = 0.5
"""The probability that a person knows a topic on the first day."""
TRUST = 0.5
"""With which everybody begins; 0 to 1."""
PACE = (4.0, 4.0)
"""Parameters of the beta distribution of a person's probability of coming on a day, at the trust of the beginning."""
PLEASURE_CLICKS = 1.0
"""Clicks per list at which a visit is two thirds of a pleasure."""
LISTS, GOES_ON = 3, 0.6
"""Lists of a visit at most, and the probability that another is looked at after one with a click."""
PAST_DAYS = 12
"""Before the first day each person finds an item elsewhere on so many days, so nobody is unknown; chosen by us."""
NEVER_AGAIN = 99.0
MEAN_DWELL_S, DWELL_SPREAD = 45.0, 0.5
_PAST, _DRIFT, _DAY = 1, 2, 3
"""Streams of random numbers."""

Floats = npt.NDArray[np.float64]


class Choice(NamedTuple):
    """What a person did with an item.

    Attributes
    ----------
    item : int
        Index in the assortment.
    dwell_s : float
        How long they looked at it.
    is_bought : bool
    """

    item: int
    dwell_s: float
    is_bought: bool = False


class Visit(NamedTuple):
    """Chance in a visit: numbers between 0 and 1.

    Attributes
    ----------
    coming : float
        Below the probability of coming, the person comes.
    hour : float
        When it begins, in hours of the day.
    goes_on : list of float
        By list: below `GOES_ON`, another one is looked at.
    items : (items, 2 + 2 * LISTS) float64
        For each item: whether a person finds it elsewhere, whether a click becomes a purchase, and by list, whether
        they look at it and click on it.
    """

    coming: float
    hour: float
    goes_on: Sequence[float]
    items: Floats


class Person:
    """A person, day by day.

    Parameters
    ----------
    seed : int
    number : int
    goods : Assortment
    rates : Rates

    Attributes
    ----------
    user_id : str
    trust : float
        What the person expects of a visit, 0 to 1.
    is_gone : bool
        Whether the person has left for good.
    """

    def __init__(self, seed: int, number: int, goods: Assortment, rates: Rates) -> None:
        self.user_id, self.trust, self.is_gone = f"person-{number}", TRUST, False
        self._key, self._goods, self._rates = (seed, number), goods, rates
        rng = np.random.default_rng([seed, _PAST, number])
        self._pace = float(rng.beta(*PACE))
        self._endurance = float(rng.exponential())  # the sum of hazards at which the person leaves
        self._taste = rng.normal(0, SPREAD, TOPICS)
        self._known = rng.random(TOPICS) < KNOWN
        self._own = rng.normal(0, rates.own, len(goods.items))
        self._satiation, self._fatigue = np.zeros(TOPICS), np.zeros(len(goods.items))
        self._consumed, self._bought = np.zeros(len(goods.items), bool), np.zeros(len(goods.items), bool)

    def begin_day(self, day: int) -> None:
        """Let a night pass: tastes drift, boredom fades, and whoever has had enough leaves.

        Days up to 0 are before the month: nobody leaves.
        """
        rates = self._rates
        step = np.random.default_rng([*self._key, _DRIFT, PAST_DAYS + day]).normal(0, 1, TOPICS)
        back = (1 - min(1.0, rates.drift / SPREAD) ** 2) ** 0.5
        self._taste = back * self._taste + rates.drift * step
        self._satiation *= 2 ** (-1 / rates.satiation_half_life_days)
        self._fatigue *= 2 ** (-1 / rates.fatigue_half_life_days)
        if day > 0:
            self._endurance -= rates.leaving * exp(-rates.leaving_slope * (self.trust - TRUST))
        self.is_gone = self.is_gone or self._endurance < 0

    def comes(self, day: int) -> Visit | None:
        """Return the visit of a day, if the person comes: the likelier, the more they trust."""
        visit = self.chance(day)
        return visit if not self.is_gone and visit.coming < self._pace * self.trust / TRUST else None

    def chance(self, day: int) -> Visit:
        """Return the visit of a day, whether or not the person comes."""
        rng = np.random.default_rng([*self._key, _DAY, PAST_DAYS + day])
        coming, hour, *goes_on = rng.random(2 + LISTS).tolist()
        return Visit(coming, 8 + 14 * hour, goes_on, rng.random((len(self._goods.items), 2 + 2 * LISTS)))

    def log_odds(self, item: int | slice) -> Floats:
        """Return the log-odds of a click on items that the person looks at now."""
        rates, topic = self._rates, self._goods.topic[item]
        return np.asarray(
            rates.base
            + rates.liking * np.tanh(self._taste[topic])
            + self._goods.quality[item]
            + self._own[item]
            - rates.boredom * self._satiation[topic]
            - rates.fatigue * self._fatigue[item]
            - rates.consumed * self._consumed[item]
            - rates.strangeness * ~self._known[topic]
            - NEVER_AGAIN * self._bought[item]
        )

    def find(self, visit: Visit, day: int) -> Choice:
        """Return what brings the person: an item that they found elsewhere, of a topic that they know."""
        there = slice(0, self._goods.there(day))
        wanted = self.log_odds(there) - NEVER_AGAIN * ~self._known[self._goods.topic[there]]
        item = int(np.argmax(wanted - np.log(-np.log(visit.items[there, 0]))))  # Gumbel's way to draw by odds
        self._consume(item)
        return Choice(item, self._dwell(visit, item, 0.5))

    def read(self, visit: Visit, number: int, shown: Sequence[int]) -> tuple[list[Choice], float]:
        """Read a list from the top, and click. Returns the choices, and how many clicks they are worth to the person.

        Place k is looked at with the probability `1 / log2(k + 1)`: the position-based model (Craswell et al. 2008).

        Parameters
        ----------
        visit : Visit
        number : int
            Of the list in the visit, from 0.
        shown : sequence of int
            Indices of items, rank 1 first.
        """
        choices, worth = list[Choice](), 0.0
        for place, item in enumerate(shown, 1):
            looks, clicks = visit.items[item, 2 + 2 * number : 4 + 2 * number]
            if looks >= 1 / log2(place + 1):
                continue
            chance = 1 / (1 + exp(-float(self.log_odds(item))))
            if clicks >= chance:
                self._fatigue[item] += 1
                self._satiation[self._goods.topic[item]] += self._rates.looked
                continue
            worth += 1.0 if self._known[self._goods.topic[item]] else self._rates.discovery
            self._consume(item)
            self._bought[item] = is_bought = bool(visit.items[item, 1] < self._rates.buying)
            choices.append(Choice(item, self._dwell(visit, item, chance), is_bought))
        return choices, worth

    def end_visit(self, worth: float, lists: int) -> None:
        """Learn what to expect of a visit from one with so many lists, whose clicks were worth so much."""
        pleasure = 1 - exp(-worth / lists / PLEASURE_CLICKS)
        self.trust += self._rates.trust_rate * (pleasure - self.trust)

    def _consume(self, item: int) -> None:
        self._known[self._goods.topic[item]] = True
        self._satiation[self._goods.topic[item]] += 1
        self._consumed[item] = True

    def _dwell(self, visit: Visit, item: int, chance: float) -> float:
        """Seconds: the longer, the more the person likes it."""
        luck = log(max(1e-9, visit.items[item, 1])) + 1  # mean 0, standard deviation 1
        return MEAN_DWELL_S * (0.4 + 1.2 * chance) * exp(DWELL_SPREAD * max(-2.0, luck))
