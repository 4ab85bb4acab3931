"""The numbers by which people of a generated month live: how tastes drift, and what boredom, discovery and trust do.

Forms are those of the literature, where it has one. The numbers are chosen by us, on the seeds 100 to 102: a month must
tell good lists from bad ones, and most people must neither stay whatever they are shown nor leave at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Rates:
    """Effects of a world. All log-odds are of a click on an item that a person looks at.

    Attributes
    ----------
    base : float
        Log-odds of a click on a usual item of a topic that leaves the person cold.
    liking : float
        What the most liked topic adds, and the least liked one takes; a taste saturates: `liking * tanh(z)`.
    own : float
        Standard deviation of a person's own appeal of an item, in log-odds: two items of a topic are not alike.
    drift : float
        Standard deviation of the step of each taste z in a day. Tastes go back to indifference as slowly as keeps their
        spread (an Ornstein-Uhlenbeck process). That tastes drift by person and day: Koren, "Collaborative filtering
        with temporal dynamics", KDD 2009.
    boredom : float
        Log-odds that one unit of satiation with a topic takes. A click adds 1, a look `looked`; then satiation falls by
        `satiation_half_life_days`. The linear dynamical system of Leqi, Kilinc-Karzan, Lipton and Montgomery,
        "Rebounding bandits for modeling satiation effects", NeurIPS 2021.
    looked : float
        Satiation by a look without a click.
    satiation_half_life_days : float
    fatigue : float
        Log-odds that an item loses each time that it is looked at without a click (Ma, Liu and Shen, "User fatigue in
        online news recommendation", WWW 2016). It recovers by `fatigue_half_life_days`.
    fatigue_half_life_days : float
    consumed : float
        Log-odds that an item loses by a click, for good: what was read is read. It is no boredom: people without
        boredom have it, too.
    strangeness : float
        Log-odds that a topic lacks until the person has clicked on an item of it: the unfamiliar is liked less (Zajonc,
        "Attitudinal effects of mere exposure", JPSP 9, 1968). Nobody looks for a topic that they do not know.
    discovery : float
        How many clicks the first click on a topic is worth to the person.
    trust_rate : float
        Share of the way that trust goes to the pleasure of a visit: learning by the error of an expectation (Rescorla
        and Wagner 1972). The pleasure is `1 - exp(-clicks per list)`.
    leaving : float
        Hazard of leaving for good, per day, at the trust that people begin with.
    leaving_slope : float
        The hazard is `leaving * exp(-leaving_slope * (trust - 0.5))`: proportional hazards (Cox 1972), as return times
        are modelled by Kapoor et al., "A hazard based approach to user return time prediction", KDD 2014.
    buying : float
        Probability that a click ends in a purchase; nobody buys an item twice.
    """

    base: float = -1.5
    liking: float = 1.8
    own: float = 1.2
    drift: float = 0.25
    boredom: float = 0.6
    looked: float = 0.15
    satiation_half_life_days: float = 2.0
    fatigue: float = 0.6
    fatigue_half_life_days: float = 7.0
    consumed: float = 2.5
    strangeness: float = 0.7
    discovery: float = 2.0
    trust_rate: float = 0.15
    leaving: float = 0.02
    leaving_slope: float = 10.0
    buying: float = 0.1

    def without_boredom(self) -> Rates:
        """Return the rates of people whom nothing satiates and no repetition tires."""
        return replace(self, boredom=0.0, fatigue=0.0)
