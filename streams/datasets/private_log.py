"""Events with local differential privacy: each one is exported as another one might have been.

What an event is about, its item and its type, goes through k-ary randomised response (Warner 1965; Kairouz, Bonawitz
and Ramage 2016) over all pairs of an item of the catalogue and a type of the log. The mechanism is of OpenDP, which
proves it and draws without floating-point bias. Knows no file and no command.

The guarantee: two logs that differ in the item and the type of one event give any export with probabilities whose ratio
is at most e^epsilon; two logs that differ in those of n events, at most e^(n epsilon). Not covered: that a user did
something of a type that is exported, on which day (UTC), and how often.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np
import numpy.typing as npt
import opendp.prelude as dp

from ranker.evaluation.ids import index_by_id
from ranker.evaluation.interactions import NONE, Interactions
from ranker.progress import Progress, silent
from streams.contracts import Click, Purchase, UserEvent
from streams.datasets.event_log import EventLog
from streams.datasets.messages import InputError

MAX_EPSILON = 20.0
"""Above it an event among a million pairs is left as it is 499 times in 500: that is no protection."""
ROUNDING = 1e-9
"""The share of epsilon that is kept back, so that OpenDP's conservative rounding stays within it."""
DAY_MS, SECOND_MS = 86_400_000, 1_000
PROGRESS_EVENTS = 1_000
RATING = "rating"
"""A type that is not exported: the mechanism does not cover its value."""

dp.enable_features("contrib")


class RandomisedResponse:
    """Answers with the true one of k categories, or with any of the others, all equally likely.

    Parameters
    ----------
    categories : int
        k, at least 2.
    epsilon : float
        Above 0, at most `MAX_EPSILON`.

    Attributes
    ----------
    truth : float
        The probability of the true answer, e^epsilon / (e^epsilon + k - 1); each other one has (1 - truth) / (k - 1).
    epsilon : float
        What OpenDP proves of it; never above what was asked for.

    Raises
    ------
    InputError
        A parameter is out of its range.
    """

    def __init__(self, categories: int, epsilon: float) -> None:
        if categories < 2:
            raise InputError(
                f"got {categories} pairs of an item and a type of event, expected at least 2 to choose from"
            )
        if not 0 < epsilon <= MAX_EPSILON:
            raise InputError(f"--epsilon: got {epsilon}, expected a number above 0, and at most {MAX_EPSILON:.0f}")
        times_as_likely = exp(epsilon * (1 - ROUNDING))
        self.truth = times_as_likely / (times_as_likely + categories - 1)
        self._measurement = dp.m.make_randomized_response(list(range(categories)), self.truth, T="i32")
        self.epsilon = float(self._measurement.map(1))  # type: ignore[no-untyped-call]
        if self.epsilon > epsilon:
            raise ArithmeticError(f"randomised response: got epsilon {self.epsilon}, expected at most {epsilon}")

    def __call__(self, answer: int) -> int:
        """Draw an answer, from the system's source of randomness."""
        return int(self._measurement(answer))


@dataclass(frozen=True)
class PrivateLog:
    """What is exported of a log.

    Attributes
    ----------
    events : list of Click
        In the order of time: clicks, purchases, and events of other types. User ids are new and drawn by chance. A time
        is the event's day (UTC), plus a second for each earlier event of its user on that day.
    epsilon : float
        Of an event.
    user_epsilon : float
        Of all events of the user who has the most.
    truth : float
        The probability that an event has its own item and type.
    not_exported : dict of str to int
        The number of events by the reason that leaves them out.
    """

    events: list[Click]
    epsilon: float
    user_epsilon: float
    truth: float
    not_exported: dict[str, int]


def private_log(
    event_log: EventLog, epsilon: float, events_per_user: int | None = None, progress: Progress = silent
) -> PrivateLog:
    """Randomise what each event is about, and leave out all that the mechanism does not cover.

    The catalogue, and which types of events there are, count as public.

    Parameters
    ----------
    event_log : EventLog
    epsilon : float
        Of an event.
    events_per_user : int, optional
        Export the newest ones of each user alone. None: all.
    progress : Progress
        In events.

    Raises
    ------
    InputError
        Epsilon is out of its range, or there is nothing to choose from.
    """
    log = Interactions.of(event_log.events)
    types = sorted({log.names.types[code] for code in np.unique(log.type)} - {RATING})
    covered = log[np.isin(log.type, [log.names.types.index(name) for name in types])]
    exported = covered[_newest(covered, events_per_user)]
    ids = [item.item_id for item in event_log.items]
    mechanism = RandomisedResponse(len(ids) * len(types), epsilon)
    events = list(_randomised(exported, ids, types, mechanism, progress))
    not_exported = {
        "ratings": len(log) - len(covered),
        "older than --events-per-user": len(covered) - len(exported),
        "searches, returns, and what users do not want": len(log.signs),
    }
    return PrivateLog(
        sorted(events, key=lambda event: (event.timestamp, event.user_id)),
        mechanism.epsilon,
        mechanism.epsilon * int(np.bincount(exported.user).max(initial=0)),
        mechanism.truth,
        {reason: count for reason, count in not_exported.items() if count},
    )


def _newest(log: Interactions, events_per_user: int | None) -> npt.NDArray[np.int64]:
    """Indices of the newest events of each user, by user and then by time; None: of all events.

    Events of the same time are in an order by chance: that of an invoice may depend on its items.
    """
    by_chance = np.random.default_rng(secrets.randbits(128)).random(len(log))
    order = np.lexsort((by_chance, log.time_ms, log.user))
    ends = np.searchsorted(log.user[order], log.user[order], side="right")
    newer = ends - np.arange(len(order))
    return order if events_per_user is None else order[newer <= events_per_user]


def _randomised(
    log: Interactions, ids: Sequence[str], types: Sequence[str], mechanism: RandomisedResponse, progress: Progress
) -> Iterator[Click]:
    """Yield the events of a log that is ordered by user and then by time, as others might have been."""
    item_numbers, type_numbers = index_by_id(ids), index_by_id(types)
    export = secrets.token_hex(4)  # so that no id of two exports is the same
    numbers = list(range(len(log.names.users)))
    secrets.SystemRandom().shuffle(numbers)
    user = day = NONE
    first_of_user = first_of_day = 0
    for number, (code, event) in enumerate(zip(log.user.tolist(), log, strict=True)):
        if number % PROGRESS_EVENTS == 0:
            progress(number, len(log))
        if code != user:
            first_of_user, user, day = number, code, NONE
        if event.time_ms // DAY_MS != day:
            first_of_day, day = number, event.time_ms // DAY_MS
        drawn = mechanism(item_numbers[event.item] * len(types) + type_numbers[event.kind])
        item, type_ = divmod(drawn, len(types))
        user_id = f"{export}-{numbers[code]}"
        yield _message(
            types[type_],
            event_id=f"{user_id}-{number - first_of_user}",
            user_id=user_id,
            item_id=ids[item],
            timestamp=day * DAY_MS + (number - first_of_day) * SECOND_MS,
        )


def _message(type_: str, **values: Any) -> Click:
    if type_ == "click":
        return Click(**values)
    return Purchase(**values) if type_ == "purchase" else UserEvent(type=type_, **values)
