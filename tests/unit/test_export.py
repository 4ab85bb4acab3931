"""`afterclick export`: what is protected, exactly and as it is drawn, what is left out, and who can read the files."""

from __future__ import annotations

import json
from collections import Counter
from math import exp, log, sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.evaluation.interactions import Interaction, Interactions
from streams.commands import export
from streams.commands.train import Training
from streams.contracts import Item, Purchase, UserEvent
from streams.datasets.event_log import EventLog, read_files
from streams.datasets.file_messages import topic_files
from streams.datasets.messages import InputError
from streams.datasets.private_log import DAY_MS, MAX_EPSILON, RandomisedResponse, private_log
from streams.offline.training_data import gather
from streams.settings import Settings
from tests.unit.test_evaluate import evaluate

NOON_MS = 20_000 * DAY_MS + DAY_MS // 2
ITEMS = [Item(item_id=f"i{number}", title=f"Lamp {number}") for number in range(3)]


def event_log(*events: Interaction) -> EventLog:
    return EventLog(ITEMS, Interactions.of(events), [], {})


@given(st.integers(2, 50_000), st.floats(1e-3, MAX_EPSILON))
def test_no_answer_is_more_than_e_to_the_epsilon_times_as_likely_for_one_truth_as_for_another(
    categories: int, epsilon: float
) -> None:
    """By the two probabilities that there are, and by what OpenDP proves of the mechanism that draws."""
    mechanism = RandomisedResponse(categories, epsilon)
    other = (1 - mechanism.truth) / (categories - 1)
    assert other <= mechanism.truth
    assert log(mechanism.truth / other) <= epsilon
    assert 0.999 * epsilon < mechanism.epsilon <= epsilon, "and nothing is wasted"


def test_what_is_drawn_has_these_probabilities() -> None:
    """Two logs that differ in what one event of each user is about; the answers of both, over all users."""
    users, epsilon = 2_000, 1.0
    kinds = ("click", "purchase")
    events = [Interaction(f"u{user}", "i0", NOON_MS) for user in range(users)]
    neighbours = [event._replace(item="i2", kind="purchase") for event in events]
    of_all_types = [Interaction("a", "i0", NOON_MS, kind) for kind in kinds]  # both types occur in both logs
    drawn = []
    for log_ in (events, neighbours):
        private = private_log(event_log(*log_, *of_all_types), epsilon)
        drawn.append(Counter((event.item_id, type(event) is Purchase) for event in private.events))
    truth = exp(epsilon) / (exp(epsilon) + len(ITEMS) * len(kinds) - 1)
    other = (1 - truth) / (len(ITEMS) * len(kinds) - 1)
    assert len(drawn[0]) == len(ITEMS) * len(kinds)
    for counted, true in zip(drawn, (("i0", False), ("i2", True)), strict=True):
        for answer, count in counted.items():
            expected = truth if answer == true else other
            assert abs(count / users - expected) < 5 * sqrt(expected / users) + 2 / users, answer
    assert 0.7 * exp(epsilon) < drawn[0]["i0", False] / drawn[1]["i0", False] < 1.4 * exp(epsilon)


def test_a_reader_who_knows_all_but_one_bit_is_wrong_as_often_as_the_guarantee_says() -> None:
    """Which of two items was it? No guess is right more often than e^epsilon / (1 + e^epsilon)."""
    epsilon, draws = log(3), 2_000
    mechanism = RandomisedResponse(2, epsilon)
    right = sum(mechanism(answer % 2) == answer % 2 for answer in range(draws))
    assert abs(right / draws - 3 / 4) < 5 * sqrt(3 / 16 / draws)


def test_all_else_is_left_out_or_made_coarse() -> None:
    events = [
        Interaction("ann", "i0", NOON_MS + 5, "click", basket="s1", list_id="l1"),
        Interaction("ann", "i1", NOON_MS + 1, "cart", strength=70),
        Interaction("bob", "i1", NOON_MS - DAY_MS, "rating"),
        Interaction("ann", "i2", NOON_MS - DAY_MS, "purchase"),
    ]
    private = private_log(event_log(*events), MAX_EPSILON)
    day = NOON_MS - NOON_MS % DAY_MS
    assert [(event.item_id, event.timestamp) for event in private.events] == [
        ("i2", day - DAY_MS),
        ("i1", day),
        ("i0", day + 1_000),
    ]
    assert private.not_exported == {"ratings": 1}
    for event in private.events:
        assert set(json.loads(export.encode(event))) <= {"event_id", "user_id", "item_id", "timestamp", "type"}
    bought, carted, clicked = private.events
    assert isinstance(bought, Purchase)
    assert isinstance(carted, UserEvent)
    assert carted.type == "cart"
    assert bought.user_id == carted.user_id == clicked.user_id
    again = private_log(event_log(*events), MAX_EPSILON)
    assert not {event.user_id for event in private.events} & {event.user_id for event in again.events}


def test_what_a_user_did_is_protected_within_a_bound_where_only_the_newest_events_are_exported() -> None:
    events = [
        Interaction(user, "i0", NOON_MS + n * DAY_MS) for user, count in (("a", 5), ("b", 1)) for n in range(count)
    ]
    private = private_log(event_log(*events), 0.5, events_per_user=2)
    assert private.user_epsilon == pytest.approx(1.0)
    assert private.user_epsilon <= 1.0
    assert sorted(Counter(event.user_id for event in private.events).values()) == [1, 2]
    assert max(event.timestamp for event in private.events) == NOON_MS + 4 * DAY_MS - DAY_MS // 2
    assert private.not_exported == {"older than --events-per-user": 3}


@pytest.mark.parametrize("epsilon", [0, -1, 20.5, float("nan")])
def test_an_epsilon_that_protects_nothing_or_is_none_is_refused(epsilon: float) -> None:
    with pytest.raises(InputError, match=r"--epsilon: got .*, expected a number above 0, and at most 20"):
        RandomisedResponse(9, epsilon)


def test_train_and_evaluate_read_the_files_as_any_others(tmp_path: Path) -> None:
    events = [
        Interaction(f"u{user}", f"i{(user + n) % 3}", NOON_MS + n * DAY_MS, kind)
        for user in range(20)
        for n, kind in enumerate(("click", "purchase", "cart"))
    ]
    export.run(event_log(*events), 2.0, None, tmp_path / "exported", to_json=True)
    with pytest.raises(InputError, match=r"--out: got .*, which holds items.jsonl, clicks.jsonl"):
        export.check(tmp_path / "exported")
    files = {topic: tmp_path / "exported" / f"{topic}.jsonl" for topic in ("items", "clicks", "purchases", "events")}
    read = read_files(topic_files(files))
    assert (len(read.items), len(read.events), read.left_out) == (3, 60, {})
    assert gather(read, Settings(), Training(base="none", out=tmp_path, epochs=0, max_minutes=1, seed=1)).cases
    given = [word for topic, file in files.items() for word in (f"--{topic}", str(file))]
    report = evaluate(*given, "--protocol", "time-split", "--cut", "0.5", "--systems", "popularity")
    assert report["lists"] > 0
