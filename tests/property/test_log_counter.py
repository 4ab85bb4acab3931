"""Counts of a log that were made in bulk are those of a worker that took in one event after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders.events.entries import item_key
from encoders.events.types import FULL
from ranker.evaluation.interactions import Interaction, Interactions
from ranker.evaluation.log_order import ordered
from ranker.recall import count_tables, counts, log_counter
from ranker.recall.candidates import BUILT_IN
from ranker.recall.catalogue import Catalogue
from ranker.recall.counts import Counts
from ranker.recall.log_counter import LogColumns, LogCounter
from streams.contracts import Click, Purchase
from streams.settings import CandidatesSettings, InterestSettings, Settings
from streams.state.decays import counts_of
from streams.state.tier import StateTier
from streams.state.users import Users

MINUTE_MS = 60_000
SETTINGS = Settings(interest=InterestSettings(history=5), candidates=CandidatesSettings(max_events_per_hour=6))
"""So that short logs have full histories, and users who are busy."""
events = st.lists(
    st.builds(
        Interaction,
        user=st.sampled_from("aaab"),
        item=st.sampled_from("ijklmnopq"),
        time_ms=st.integers(0, 60).map(lambda tick: (1 + tick) * 3 * MINUTE_MS),  # some are of one moment
        kind=st.sampled_from(["click", "purchase"]),
        strength=st.just(FULL),
    ),
    max_size=60,
)


def one_by_one(log: Interactions, reads: list[int]) -> Counts:
    """The counts of a state tier, which are read after so many events."""
    made = counts_of(SETTINGS)
    tier = StateTier(SETTINGS, Users({}, 1), Catalogue(1), made, BUILT_IN)
    for number, event in enumerate(log):
        if number in reads:
            made.trending()
        kind = Purchase if event.kind == "purchase" else Click
        message = kind(event_id=f"{number}", user_id=event.user, item_id=event.item, timestamp=event.time_ms)
        assert tier.accept(event.user, [message]) == ["accepted"]
    return made


def in_bulk(log: Interactions, reads: list[int]) -> Counts:
    made = counts_of(SETTINGS)
    keys = np.array([item_key(item) for item in log.names.items], np.uint64)
    counter = LogCounter(
        made,
        SETTINGS.interest.history,
        SETTINGS.candidates.max_events_per_hour,
        LogColumns(keys, log.user, log.item, log.time_ms, np.ones(len(log))),
    )
    for begin, end in zip([0, *reads], [*reads, len(log)], strict=True):
        counter.count(begin, end)
    return made


@given(log=events, reads=st.sets(st.integers(0, 60)))
def test_they_are_equal_to_the_last_bit(log: list[Interaction], reads: set[int]) -> None:
    """Batches are short here, and rows have few neighbours, so that new neighbours replace others."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(count_tables, "MAX_NEIGHBOURS", 3)
        for module in (counts, log_counter):
            patched.setattr(module, "MAX_PENDING_EVENTS", 7)
        in_order = ordered(log, 1)
        read = sorted(number for number in reads if number <= len(log))
        expected, got = one_by_one(in_order, read), in_bulk(in_order, read)
        assert sorted(got.changes()) == sorted(expected.changes())
        assert got.trending() == expected.trending()


def test_a_log_that_is_not_in_the_order_of_time_is_refused() -> None:
    with pytest.raises(ValueError, match="sort it first"):
        in_bulk(Interactions.of([Interaction("a", "i", 2), Interaction("a", "j", 1)]), [])
