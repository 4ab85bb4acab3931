"""The requests of a split are those of a worker that took in every event of every user, one after the other."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from encoders.text.encoder import TextEncoder
from ranker.evaluation.interactions import Interaction, Interactions
from ranker.evaluation.protocols import Split, prequential
from ranker.progress import Progress
from streams.contracts import Click, Purchase, RankRequest
from streams.datasets.event_log import synthetic
from streams.offline import split_pipeline
from streams.offline.log_feed import LogFeed
from streams.offline.sampling import EVENTS_PER_QUERY_GROUP, MOST_EVENTS, of_some_users
from streams.offline.split_pipeline import SplitPipeline
from streams.offline.training_data import gather
from streams.offline.training_run import TrainingRun
from streams.settings import CandidatesSettings, EncoderSettings, InterestSettings, Settings
from tests import models

EVENTS = 1_000


class OneByOne(LogFeed):
    """Lets the whole state tier take in each event."""

    def take_events(self, until: int, progress: Progress) -> None:
        for index in range(self._taken, until):
            event = self._log[index]
            self.take_items(event.time_ms)
            kind = Purchase if event.kind == "purchase" else Click
            message = kind(event_id=f"{index}", user_id=event.user, item_id=event.item, timestamp=event.time_ms)
            assert self._tier.accept(event.user, [message]) == ["accepted"]
        self._taken = until


def test_they_are_equal_for_some_users_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some items appear late, some users are busy, and some moments have many events."""
    event_log, rng = synthetic(5, EVENTS), random.Random(5)
    times = sorted(event.time_ms for event in event_log.events)
    items = [
        msgspec.structs.replace(item, timestamp=rng.choice(times)) if rng.random() < 0.3 else item
        for item in event_log.items[:800]
    ]
    ids = {item.item_id for item in items}
    events = [event._replace(time_ms=event.time_ms // 300_000 * 300_000) for event in event_log.events]
    events = [event._replace(item=event.item if event.item in ids else rng.choice(items).item_id) for event in events]
    whole = prequential(sorted(events, key=lambda event: event.time_ms), EVENTS // 3)
    split = Split(whole.log, whole.learnable, whole.fit_until, rng.sample(whole.cases, 40))
    settings = Settings(
        encoder=EncoderSettings(model=str(models.encoder(tmp_path)), device="cpu", dtype="float32"),
        interest=InterestSettings(history=10),
        candidates=CandidatesSettings(max_events_per_hour=8),
    )
    encoder = TextEncoder(settings.encoder.model, "cpu", "float32")
    got = SplitPipeline(settings, encoder, items, split).all_requests(False, lambda *_: None)
    monkeypatch.setattr(split_pipeline, "LogFeed", OneByOne)
    expected = SplitPipeline(settings, encoder, items, split).all_requests(False, lambda *_: None)
    assert [without_id(request) for request in got] == [without_id(request) for request in expected]
    assert any(request.history for request in got)


def without_id(request: RankRequest) -> RankRequest:
    return msgspec.structs.replace(request, request_id="")


def test_of_a_large_log_some_users_are_asked_with_all_their_events(tmp_path: Path) -> None:
    event_log, settings = synthetic(5, EVENTS), Settings()
    data = gather(event_log, settings, TrainingRun(out=tmp_path, max_query_groups=10))
    for seed, events in ((1, 100), (2, 100), (1, EVENTS)):
        some = data.log[of_some_users(data.log, events, seed)]
        users = {event.user for event in some}
        assert list(some) == [event for event in data.log if event.user in users]
        assert events <= len(some) - len(users) < events + 100 or events == EVENTS == len(some)
    asked = {event.user for event in data.log[of_some_users(data.log, 10 * EVENTS_PER_QUERY_GROUP, 1)]}
    assert {case.user for case in data.cases} <= asked < {event.user for event in data.log}
    assert len(data.cases) == 10


def test_the_events_of_a_machine_count_and_it_is_not_asked() -> None:
    machine = (Interaction("machine", "mug", number) for number in range(MOST_EVENTS + 1))
    log = Interactions.of([*machine, Interaction("ann", "mug", 0)])
    assert list(log[of_some_users(log, 10**6, 1)]) == [log[-1]]
