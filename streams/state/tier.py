"""Steps 2 and 3 in memory: an event changes a state, a state gives a rank request. Knows no Kafka and no Faust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from encoders.describe import describe_item
from encoders.event_time import milliseconds
from encoders.interest import (
    WAITING,
    Decay,
    Entries,
    Event,
    Vector,
    entries_of,
    in_order,
    item_key,
    newest,
    settle,
    update_all,
)
from ranker.recall.candidates import Source
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import Counts
from ranker.recall.event_runs import NOT_COUNTED, EarlierEvents
from streams import metrics
from streams.contracts import (
    COLD_START_USER,
    Click,
    EventType,
    Feedback,
    Item,
    Purchase,
    RankRequest,
    Trigger,
)
from streams.settings import Settings
from streams.state.event_memory import EventMemory, SeenEvent, seen_of
from streams.state.request_builder import RequestBuilder
from streams.state.users import Users

Outcome = Literal["accepted", "duplicate", "forgotten"]


def decay_of(settings: Settings) -> Decay:
    """Give the settings of the interest state in its own units."""
    return Decay(
        session_half_life_ms=settings.interest.session_half_life_minutes * 60_000,
        long_half_life_ms=settings.interest.long_half_life_days * 86_400_000,
        purchase_weight=settings.interest.purchase_weight,
        history=settings.interest.history,
    )


def counts_of(settings: Settings) -> Counts:
    """Make empty counts with the configured half-lives."""
    return Counts(
        co_visit_half_life_ms=settings.candidates.co_visit_half_life_days * 86_400_000,
        trend_half_life_ms=settings.candidates.trending_half_life_hours * 3_600_000,
        window=settings.interest.history,
    )


class StateTier:
    """Steps 2 and 3 for the users of some partitions. The caller makes `users` durable.

    Parameters
    ----------
    settings : Settings
        Half-lives, limits and models.
    users : Users
        The users' records.
    catalogue : Catalogue
        The items; `put_item` and `delete_item` change it.
    counts : Counts
        Co-visits and trends; accepted events change them.
    sources : sequence of Source
        Where candidates come from.

    Attributes
    ----------
    requests : RequestBuilder
        Step 3.
    """

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
        self._max_events_an_hour = settings.candidates.max_events_per_hour
        self._decay = decay_of(settings)
        self.requests = RequestBuilder(settings, catalogue, counts, sources, self._decay)
        self._waiting: dict[int, set[str]] = {}  # by key of an item that is not in the catalogue: its users

    def accept(self, user_id: str, clicks: Sequence[Click]) -> list[Outcome]:
        """Step 2: apply clicks and purchases of one user to the state, each event once.

        Parameters
        ----------
        user_id : str
            The user.
        clicks : sequence of Click
            In the order of arrival.

        Returns
        -------
        list of {"accepted", "duplicate", "forgotten"}
            For each event: it was applied; it was applied before, or may have been; it is older than the time when the
            user was forgotten.
        """
        until_ms = self.users.forgotten_until(user_id)
        memory = self.users.memory(user_id)
        outcomes: list[Outcome] = []
        events: list[Event] = []
        before: list[EarlierEvents] = []
        for click in clicks:
            event = Event(item_key(click.item_id), milliseconds(click.timestamp), type_of(click))
            seen = seen_of(click.event_id, event)
            if event.time_ms <= until_ms:
                outcomes.append("forgotten")
            elif (novelty := memory.look_up(seen)) != "new":
                outcomes.append("duplicate")
                metrics.duplicates_presumed.inc(novelty == "too-old")
            else:
                outcomes.append("accepted")
                events.append(event)
                before.append(self._before(memory, seen))
                memory.add(seen)
        if set(outcomes) != {"forgotten"}:
            self._update(user_id, memory, events, before)
        return outcomes

    def _before(self, memory: EventMemory, seen: SeenEvent) -> EarlierEvents:
        """Give what decides the weight of the event in the counts."""
        if memory.is_busy(seen.second, self._max_events_an_hour):
            metrics.events_uncounted.labels("busy").inc()
            return NOT_COUNTED
        return memory.before(seen)

    def _update(
        self, user_id: str, memory: EventMemory, events: Sequence[Event], before: Sequence[EarlierEvents]
    ) -> None:
        vectors = [self.catalogue.vector(event.item) for event in events]
        unknown = [event.item for event, vector in zip(events, vectors, strict=True) if vector is None]
        for item in unknown:
            self._waiting.setdefault(item, set()).add(user_id)
        interest = self.users.get(user_id).interest
        metrics.waiting_events_dropped.inc(max(0, len(unknown) + len(interest.waiting) - WAITING) if unknown else 0)
        self.users.accept(user_id, memory, update_all(interest, events, vectors, self._decay))
        if events:
            self._count(events, before, interest.history)

    def _count(self, events: Sequence[Event], before: Sequence[EarlierEvents], history: Entries) -> None:
        """Count the events: together if they are newer than the history and in order of time, else one by one.

        One by one, each event is counted with the history that it came upon.
        """
        entries = entries_of(events)
        if in_order(history, entries):
            self.counts.observe(events, history["item"].tolist(), before)
            return
        for index, event in enumerate(events):
            self.counts.observe([event], history["item"].tolist(), before[index : index + 1])
            history = newest(history, entries[index : index + 1], self._decay.history)

    def forget(self, user_id: str, time_ms: int) -> bool:
        """Erase the user's state; a hash and two times remain. See `Users.forget`."""
        waiting = self.users.get(user_id).interest.waiting
        if not self.users.forget(user_id, time_ms):
            return False
        for entry in waiting:
            self._waiting.get(int(entry["item"]), set()).discard(user_id)
        return True

    def put_item(self, item: Item, vector: Vector, arrived_ms: int) -> list[str]:
        """Put an item into the catalogue, and apply the events that were waiting for it.

        Parameters
        ----------
        item : Item
            The item.
        vector : numpy.ndarray
            (dim,) float32, the vector of its text.
        arrived_ms : int
            When the item's record was written.

        Returns
        -------
        list of str
            The users whose states have changed.
        """
        self.catalogue.put(catalogue_item(item, self._appeared_ms(item, arrived_ms)), vector)
        return [user_id for user_id in self._waiting.pop(item_key(item.item_id), ()) if self._settle(user_id)]

    def _appeared_ms(self, item: Item, arrived_ms: int) -> int:
        """Give the time when the item first appeared: an item that is sent again every night is not new.

        After compaction, a worker that starts sees only the newest message of an item, and takes its time.
        """
        present = self.catalogue.get(item_key(item.item_id))
        return arrived_ms if present is None else min(arrived_ms, present.time_ms)

    def delete_item(self, item_id: str) -> None:
        """Take an item out of the catalogue."""
        self.catalogue.delete(item_id)

    def suspend(self) -> None:
        """Let no arriving item change a user until `resume`: another worker may hold the users from now on."""
        self._waiting = {}
        self.users.drop_cache()

    def resume(self, owned: Callable[[str], bool]) -> list[str]:
        """Find in the store which users wait for an item, and apply the events whose items have arrived meanwhile.

        Parameters
        ----------
        owned : callable
            Says whether this worker holds the user.

        Returns
        -------
        list of str
            The users whose states have changed.

        Raises
        ------
        StateUnreadable
            The store holds a record that this version cannot read.
        """
        self.users.drop_cache()  # it may be older than the restored store
        settled = []
        for user_id, interest in [pair for pair in self.users.waiting() if owned(pair[0])]:
            for entry in interest.waiting:
                self._waiting.setdefault(int(entry["item"]), set()).add(user_id)
            if self._settle(user_id):
                settled.append(user_id)
        return settled

    def request(
        self, user_id: str, trigger: Trigger | None, arrived_ms: int | None, feedback: Sequence[Feedback] = ()
    ) -> RankRequest:
        """Step 3: recall the user's candidates, and build the rank request. See `RequestBuilder.build`."""
        shopper = self.requests.shopper(self.users.get(user_id).interest)
        return self.requests.build(user_id, shopper, self.requests.recall(shopper), trigger, arrived_ms, feedback)

    def cold_start_request(self, as_of_ms: int) -> RankRequest:
        """Step 3 for users without a list: items that are popular now, and items that are new."""
        request = self.request(COLD_START_USER, None, None)
        return msgspec.structs.replace(request, as_of=as_of_ms)

    def _settle(self, user_id: str) -> bool:
        """Apply the waiting events whose items are in the catalogue by now. Returns whether there was one."""
        before = self.users.get(user_id).interest
        after = settle(before, self.catalogue.vector, self._decay)
        if after is not before:
            self.users.put(user_id, after)
        return after is not before


def catalogue_item(item: Item, arrived_ms: int) -> CatalogueItem:
    """Convert an item to the catalogue's form. An item without a time of its own is as old as its message."""
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
    """Give the type of an event."""
    return "purchase" if isinstance(click, Purchase) else "click"
