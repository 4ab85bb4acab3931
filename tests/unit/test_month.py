"""The people of a generated month: boredom, drift, discovery, trust and churn each have an effect; chance is theirs."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from streams.datasets.month.assortment import Assortment
from streams.datasets.month.person import Person
from streams.datasets.month.rates import Rates

SEED, DAYS, PEOPLE = 3, 6, 6
GOODS = Assortment(SEED, DAYS)
EVERYTHING = slice(0, None)


def people(rates: Rates, number: int = PEOPLE) -> list[Person]:
    return [Person(SEED, one, GOODS, rates) for one in range(number)]


def diary(rates: Rates, shown: list[int], number: int = PEOPLE) -> list[Any]:
    """All that people do in some days in which each list has the same items, and what they are like then."""
    written: list[Any] = []
    for person in people(rates, number):
        for day in range(1, DAYS + 1):
            person.begin_day(day)
            visit = person.chance(day)
            choices, worth = person.read(visit, 0, shown)
            person.end_visit(worth, 1)
            written.append((person.find(visit, day), choices, worth))
        written.append((person.trust, person.is_gone, person.log_odds(EVERYTHING).tolist()))
    return written


def test_the_same_seed_gives_the_same_month() -> None:
    assert diary(Rates(), [*range(10)]) == diary(Rates(), [*range(10)])
    assert Assortment(SEED, 2).items == GOODS.items[: GOODS.there(2)], "a longer month begins as a shorter one"
    assert Assortment(SEED + 1, DAYS).items != GOODS.items


def test_chance_does_not_depend_on_what_was_shown() -> None:
    one, other = people(Rates(), 2)[0], people(Rates(), 2)[0]
    one.read(one.chance(1), 0, [0, 1, 2])
    assert one.chance(2).items.tolist() == other.chance(2).items.tolist()


@pytest.mark.parametrize("rate", [one.name for one in fields(Rates)])
def test_every_rate_has_an_effect(rate: str) -> None:
    usual = Rates()
    changed = replace(usual, **{rate: getattr(usual, rate) * 3 + 0.3})
    shown = [*range(40)]
    assert diary(changed, shown, 12) != diary(usual, shown, 12)


def liked(person: Person) -> int:
    """The topic of the item that the person likes best."""
    return int(GOODS.topic[np.argmax(person.log_odds(EVERYTHING))])


def test_a_topic_bores_and_rebounds() -> None:
    person = people(Rates(drift=0.0))[0]
    topic = liked(person)
    of_topic = np.flatnonzero(GOODS.topic == topic)
    last = int(of_topic[-1])  # nobody looks at it
    before = person.log_odds(last)
    for number in range(3):
        person.read(person.chance(1), number, of_topic[:-1].tolist())
    bored = person.log_odds(last)
    assert bored < before - 1
    for day in range(1, 8):
        person.begin_day(day)
    assert bored + 1 < person.log_odds(last) <= before + 0.7, "as before, or better once the topic is known"


def test_without_boredom_nothing_wears_off_but_what_was_read() -> None:
    person = people(Rates().without_boredom())[0]
    before = person.log_odds(EVERYTHING)
    choices, _ = person.read(person.chance(1), 0, [*range(10)])
    read = {one.item for one in choices}
    others = [item for item in range(10) if item not in read]
    assert (person.log_odds(EVERYTHING)[others] >= before[others]).all()


def test_an_item_that_is_passed_over_tires() -> None:
    rates = Rates(boredom=0.0, base=-99.0)
    person = people(rates)[0]
    before = float(person.log_odds(0))
    person.read(person.chance(1), 0, [0])
    assert float(person.log_odds(0)) == pytest.approx(before - rates.fatigue), "rank 1 is always looked at"


def test_tastes_drift_and_keep_their_spread() -> None:
    still, drifting = ([person.log_odds(EVERYTHING) for person in people(Rates(drift=drift))] for drift in (0.0, 0.3))
    assert np.array_equal(still, drifting)
    moved = people(Rates(drift=0.3, own=0.0, strangeness=0.0), 60)
    before = np.concatenate([person.log_odds(EVERYTHING) for person in moved])
    for day in range(1, 15):
        for person in moved:
            person.begin_day(day)
    after = np.concatenate([person.log_odds(EVERYTHING) for person in moved])
    assert 0.3 < np.corrcoef(before, after)[0, 1] < 0.95
    assert after.std() == pytest.approx(before.std(), rel=0.1)


def test_who_trusts_comes_oftener_and_stays() -> None:
    def lived(trust: float) -> tuple[int, int]:
        came, stayed = 0, 0
        for person in people(Rates(), 40):
            person.trust = trust
            for day in range(1, 31):
                person.begin_day(day)
                came += person.comes(day) is not None
            stayed += not person.is_gone
        return came, stayed

    (few, left), (many, stayed) = lived(0.4), lived(0.6)
    assert many > 1.5 * few
    assert stayed > 1.5 * left
    gone = people(Rates(leaving=99.0))[0]
    gone.begin_day(1)
    assert gone.is_gone
    assert all(gone.comes(day) is None for day in range(1, 20)), "for good"


def test_pleasure_makes_trust() -> None:
    pleased, bored = people(Rates(), 2)
    pleased.end_visit(6.0, 2)
    bored.end_visit(0.0, 2)
    assert bored.trust < 0.5 < pleased.trust


def test_nobody_finds_what_is_not_there_yet_or_buys_twice() -> None:
    keen = people(Rates(base=9.0, buying=1.0), 1)[0]
    found = {keen.find(keen.chance(day), 0).item for day in range(1, 30)}
    assert max(found) < GOODS.there(0)
    first, _ = keen.read(keen.chance(1), 0, [0])
    again, _ = keen.read(keen.chance(2), 0, [0])
    assert [one.is_bought for one in first] == [True]
    assert again == []
