"""Steps 1 to 3 in memory: a message becomes a state, a state a request.

Knows no Kafka and no Faust: the state worker's agents call it, and so do tests, the evaluation and `Pipeline`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from encoders.describe import describe_item
from encoders.event_time import milliseconds
from encoders.interest import (
    TYPES,
    WAITING,
    Decay,
    Entries,
    Event,
    Interest,
    Vector,
    entries_of,
    in_order,
    item_key,
    newest,
    settle,
    update_all,
)
from ranker import features
from ranker.load import has_fusion
from ranker.recall.candidates import Merged, Shopper, Source, recall
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import NOT_COUNTED, Before, Counts
from streams import metrics
from streams.contracts import (
    COLD_START_USER,
    Candidate,
    Click,
    EventType,
    Features,
    Feedback,
    HistoryEvent,
    Item,
    Purchase,
    RankRequest,
    Trigger,
)
from streams.settings import Settings
from streams.state.event_memory import Memory, Seen, seen_of
from streams.state.users import Users

Outcome = Literal["accepted", "duplicate", "forgotten"]
STEP = 10
"""Events by which the beginning of a long history moves at a time; chosen by us: a fifth of it at the most."""


def decay_of(settings: Settings) -> Decay:
    """The interest state's settings in its own units."""
    return Decay(
        session_half_life_ms=settings.interest.session_half_life_minutes * 60_000,
        long_half_life_ms=settings.interest.long_half_life_days * 86_400_000,
        purchase_weight=settings.interest.purchase_weight,
        history=settings.interest.history,
    )


def counts_of(settings: Settings) -> Counts:
    """Empty counts with the configured half-lives."""
    return Counts(
        co_visit_half_life_ms=settings.candidates.co_visit_half_life_days * 86_400_000,
        trend_half_life_ms=settings.candidates.trending_half_life_hours * 3_600_000,
        window=settings.interest.history,
    )


class StateTier:
    """Steps 1 to 3 for the users of some partitions, in memory; the caller makes `users` durable."""

    def __init__(
        self,
        settings: Settings,
        users: Users,
        catalogue: Catalogue,
        counts: Counts,
        sources: Sequence[Source],
    ) -> None:
        self.users = users
        self.catalogue = catalogue
        self.counts = counts
        self._sources = sources
        self._limit = settings.candidates.limit
        self._repeat_purchases = settings.candidates.repeat_purchases
        self._most_an_hour = settings.candidates.max_events_per_hour
        self._settings = settings
        self.look_at_models()
        self._decay = decay_of(settings)
        self._waiting: dict[int, set[str]] = {}

    def look_at_models(self) -> None:
        """Find out whether requests need features; a folder may hold another model than when we looked before."""
        ranker = self._settings.ranker
        fused = has_fusion(ranker.model) or (ranker.challenger is not None and has_fusion(ranker.challenger))
        self._with_behaviour = fused or self._settings.candidates.features == "always"

    def accept(self, user_id: str, clicks: Sequence[Click]) -> list[Outcome]:
        """Step 2: take clicks and purchases of one user, in the order of arrival, into the state, each once."""
        until_ms = self.users.forgotten_until(user_id)
        memory = self.users.memory(user_id)
        outcomes: list[Outcome] = []
        events: list[Event] = []
        before: list[Before] = []
        for click in clicks:
            event = Event(item_key(click.item_id), milliseconds(click.timestamp), type_of(click))
            seen = seen_of(click.event_id, event)
            if event.time_ms <= until_ms:
                outcomes.append("forgotten")
            elif (found := memory.look_up(seen)) != "new":
                outcomes.append("duplicate")
                metrics.repeats_presumed.inc(found == "too-old")
            else:
                outcomes.append("accepted")
                events.append(event)
                before.append(self._before(memory, seen))
                memory.add(seen)
        if set(outcomes) != {"forgotten"}:
            self._take_in(user_id, memory, events, before)
        return outcomes

    def _before(self, memory: Memory, seen: Seen) -> Before:
        """How much the event weighs in everybody's counts."""
        if memory.is_busy(seen.second, self._most_an_hour):
            metrics.events_uncounted.labels("busy").inc()
            return NOT_COUNTED
        return memory.before(seen)

    def _take_in(self, user_id: str, memory: Memory, events: Sequence[Event], before: Sequence[Before]) -> None:
        vectors = [self.catalogue.vector(event.item) for event in events]
        unknown = [event.item for event, vector in zip(events, vectors, strict=True) if vector is None]
        for item in unknown:
            self._waiting.setdefault(item, set()).add(user_id)
        interest = self.users.get(user_id).interest
        metrics.waiting_dropped.inc(max(0, len(unknown) + len(interest.waiting) - WAITING) if unknown else 0)
        self.users.accept(user_id, memory, update_all(interest, events, vectors, self._decay))
        if events:
            self._count(events, before, interest.history)

    def _count(self, events: Sequence[Event], before: Sequence[Before], history: Entries) -> None:
        """Count events together if each is the user's newest, else each with the history as it came upon it."""
        new = entries_of(events)
        if in_order(history, new):
            self.counts.observe(events, history["item"].tolist(), before)
            return
        for place, event in enumerate(events):
            self.counts.observe([event], history["item"].tolist(), before[place : place + 1])
            history = newest(history, new[place : place + 1], self._decay.history)

    def forget(self, user_id: str, time_ms: int) -> bool:
        """Erase the user's state; what is left is a hash and two times. Returns whether the wish is a new one."""
        waiting = self.users.get(user_id).interest.waiting
        if not self.users.forget(user_id, time_ms):
            return False
        for entry in waiting:
            self._waiting.get(int(entry["item"]), set()).discard(user_id)
        return True

    def put_item(self, item: Item, vector: Vector, arrived_ms: int) -> list[str]:
        """Take an item into the catalogue. Returns the users whose events were waiting for it, now counted."""
        self.catalogue.put(catalogue_item(item, self._appeared_ms(item, arrived_ms)), vector)
        return [user_id for user_id in self._waiting.pop(item_key(item.item_id), ()) if self._settle(user_id)]

    def _appeared_ms(self, item: Item, arrived_ms: int) -> int:
        """When an item without a time of its own came first: one that is sent again every night is not new.

        Of what compaction left of the topic a worker that starts sees the newest message only: then that is the time.
        """
        known = self.catalogue.get(item_key(item.item_id))
        return arrived_ms if known is None else min(arrived_ms, known.time_ms)

    def delete_item(self, item_id: str) -> None:
        """Take an item out of the catalogue."""
        self.catalogue.delete(item_id)

    def suspend(self) -> None:
        """The users may be somebody else's from now on: no item that arrives changes them, until `resume`."""
        self._waiting = {}
        self.users.let_go()

    def resume(self, owned: Callable[[str], bool]) -> list[str]:
        """Find in the store which of our users wait for what. Returns those whose items came meanwhile, now counted."""
        self.users.let_go()  # what was read before the store had them back
        settled = []
        for user_id, interest in [pair for pair in self.users.waiting() if owned(pair[0])]:
            for entry in interest.waiting:
                self._waiting.setdefault(int(entry["item"]), set()).add(user_id)
            if self._settle(user_id):
                settled.append(user_id)
        return settled

    def request(
        self,
        user_id: str,
        trigger: Trigger | None,
        arrived_ms: int | None,
        feedback: Sequence[Feedback] = (),
        leave_out: Sequence[str] = (),
        instead: Sequence[str] = (),
    ) -> RankRequest:
        """Step 3: all that ranking needs for one user.

        The items in `leave_out` are no candidates; where there are items in `instead`, they are, and no others.
        """
        interest = self.users.get(user_id).interest
        shopper = Shopper(interest, self.catalogue, self.counts, self._decay)
        away = [item_key(item) for item in leave_out]
        found = recall(shopper, self._sources, self._limit, self._repeat_purchases, away)
        if instead:
            recalled = {merged.row: merged for merged in found}
            rows = self.catalogue.rows(map(item_key, dict.fromkeys(instead))).tolist()
            found = [recalled.get(row) or Merged(row, 0.0, {}, None) for row in rows if row >= 0]
        return RankRequest(
            request_id=uuid.uuid4().hex,
            user_id=user_id,
            as_of=interest.as_of_ms,
            history=self._history(interest),
            candidates=[self._candidate(merged) for merged in found],
            features=self._behaviour(shopper, found) if self._with_behaviour else None,
            feedback=list(feedback),
            state_version=interest.version,
            trigger=trigger,
            arrived_at=arrived_ms,
        )

    def cold_start_request(self, as_of_ms: int) -> RankRequest:
        """Step 3 for whoever has no list: what people look at now, and what is new."""
        request = self.request(COLD_START_USER, None, None)
        return msgspec.structs.replace(request, as_of=as_of_ms)

    def _behaviour(self, shopper: Shopper, found: Sequence[Merged]) -> Features:
        return Features(schema=features.SCHEMA, values=features.features(shopper, found).tobytes())

    def _settle(self, user_id: str) -> bool:
        before = self.users.get(user_id).interest
        after = settle(before, self.catalogue.vector, self._decay)
        if after is not before:
            self.users.put(user_id, after)
        return after is not before

    def _history(self, interest: Interest) -> list[HistoryEvent]:
        """The newest events, oldest first, about known items.

        Of a full history the oldest few are left out, so that it begins with the same event for `STEP` clicks on end: a
        decoder's work on it is kept then, and lost whenever its beginning moves.
        """
        moved = -interest.version % STEP if interest.version > len(interest.history) else 0
        newest = interest.history[moved:].tolist()
        entries = ((self.catalogue.get(key), time_ms, type_) for time_ms, key, type_ in newest)
        return [
            HistoryEvent(
                item_id=item.item_id,
                type=TYPES[type_],
                timestamp=time_ms,
                title=item.title,
                brand=item.brand,
                categories=list(item.categories),
                price=item.price,
                currency=item.currency,
            )
            for item, time_ms, type_ in entries
            if item is not None
        ]

    def _candidate(self, merged: Merged) -> Candidate:
        item = self.catalogue.at(merged.row)
        because = None if merged.because is None else self.catalogue.get(merged.because)
        return Candidate(
            item_id=item.item_id,
            text=item.text,
            sources=list(merged.places),
            categories=list(item.categories),
            retrieval_score=merged.retrieval_score,
            because=because.item_id if because else None,
        )


def catalogue_item(item: Item, arrived_ms: int) -> CatalogueItem:
    """An item as the catalogue holds it; one without a time of its own is as old as its message."""
    return CatalogueItem(
        item_id=item.item_id,
        title=item.title,
        text=describe_item(item),
        brand=item.brand,
        categories=tuple(item.categories),
        price=item.price,
        currency=item.currency,
        available=item.available,
        time_ms=arrived_ms if item.timestamp is None else milliseconds(item.timestamp),
    )


def type_of(click: Click) -> EventType:
    """Tell a purchase from a click."""
    return "purchase" if isinstance(click, Purchase) else "click"
