"""Steps 2 and 3 in memory: an event changes a state, a state gives a rank request. Knows no Kafka and no Faust."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import msgspec

from encoders.event_time import milliseconds
from encoders.events.entries import Event, item_key
from encoders.events.shown_lists import read
from encoders.interest import WAITING, Interest, Vector, settle, update_all
from encoders.text.sentiment import english
from ranker.load import load_recall
from ranker.recall.candidates import Source
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import Counts
from ranker.recall.event_runs import NOT_COUNTED, EarlierEvents
from ranker.recall.trained import TrainedRecall
from streams import metrics
from streams.contracts import COLD_START_USER, Click, Feedback, Item, RankRequest, Trigger
from streams.receive.user_events import event_of
from streams.settings import Settings
from streams.state.counting import count
from streams.state.decays import decay_of, dwell_of
from streams.state.event_memory import EventMemory, SeenEvent
from streams.state.impressions import shown_to
from streams.state.item_dates import ItemDates
from streams.state.query_vectors import Happening
from streams.state.request_builder import RequestBuilder
from streams.state.request_rules import context_of
from streams.state.request_wishes import RequestWishes
from streams.state.returns import Arrival, arrival, seen_as, without
from streams.state.shown_items import marked
from streams.state.transfer import UserState
from streams.state.users import Users

Outcome = Literal["accepted", "duplicate", "forgotten"]


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
        Where candidates come from, beside the learnt sources of the models.
    trained : sequence of TrainedRecall, optional
        What the models brought along, by variant. None: what the folders of the settings hold now.

    Attributes
    ----------
    requests : RequestBuilder
        Step 3.
    dates : ItemDates
        When each item first appeared.
    decay : Decay
        What an event weighs, and how fast it fades.
    """

    def __init__(
        self,
        settings: Settings,
        users: Users,
        catalogue: Catalogue,
        counts: Counts,
        sources: Sequence[Source],
        trained: Sequence[TrainedRecall] | None = None,
    ) -> None:
        self.users = users
        self.catalogue = catalogue
        self.counts = counts
        self.dates = ItemDates(catalogue)
        self.visit_ms = settings.candidates.shown_minutes * 60_000
        catalogue.knowledge.max_triples = settings.candidates.max_triples
        self._max_events_an_hour = settings.candidates.max_events_per_hour
        self.decay = decay_of(settings)
        self._sentiment = english() if settings.interest.reviews == "english" else None
        self._dwell = dwell_of(settings)
        if trained is None:
            trained = [load_recall(model) for model in settings.ranker.models]
        self.requests = RequestBuilder(settings, catalogue, counts, sources, self.decay, trained)
        self._waiting: dict[int, set[str]] = {}  # by key of an item that is not in the catalogue: its users

    def accept(
        self, user_id: str, clicks: Sequence[Happening], queries: Mapping[str, Vector] = MappingProxyType({})
    ) -> list[Outcome]:
        """Step 2: apply events and searches of one user to the state, each once.

        Parameters
        ----------
        user_id : str
            The user.
        clicks : sequence of Click or Search
            In the order of arrival. They name the user, or a visitor who was merged into the user.
        queries : mapping of str to numpy.ndarray
            The vectors of the searches by their texts.

        Returns
        -------
        list of {"accepted", "duplicate", "forgotten"}
            For each event: it was applied; it was applied before, or may have been; it is older than the time when the
            user was forgotten.
        """
        until_ms = self.users.forgotten_until(user_id)
        memory = self.users.memory(user_id)
        outcomes: list[Outcome] = []
        arrivals: list[Arrival] = []
        events: list[Event] = []
        before: list[EarlierEvents] = []
        for click in clicks:
            event = event_of(click, self.decay.weights, self._sentiment, self._dwell)
            seen = seen_as(click, event)
            if event.time_ms <= until_ms:
                outcomes.append("forgotten")
            elif (novelty := memory.look_up(seen)) != "new":
                outcomes.append("duplicate")
                metrics.duplicates_presumed.inc(novelty == "too-old")
            else:
                outcomes.append("accepted")
                arrivals.append(arrival(click, event, seen, memory))
                events.append(event)
                before.append(self._before(memory, seen, event))
                memory.add(seen)
        if set(outcomes) != {"forgotten"}:
            newest_ms = max(milliseconds(click.timestamp) for click in clicks)
            context = context_of(self.requests.rules, clicks, outcomes, self.users.get(user_id))
            history = self.users.get(user_id).interest.history
            self.users.accept(user_id, memory, self._learnt(user_id, arrivals, queries), newest_ms, context)
            if events:
                count(self.counts, self.decay, events, before, history)
        return outcomes

    def _before(self, memory: EventMemory, seen: SeenEvent, event: Event) -> EarlierEvents:
        """Give what decides the weight of the event in the counts."""
        weight = self.decay.weight(event)
        if weight <= 0 or event.query:
            return NOT_COUNTED
        if memory.is_busy(seen.second, self._max_events_an_hour):
            metrics.events_uncounted.labels("busy").inc()
            return NOT_COUNTED
        return memory.before(seen)._replace(weight=min(1.0, weight))

    def _learnt(self, user_id: str, arrivals: Sequence[Arrival], queries: Mapping[str, Vector]) -> Interest:
        """Give the user's interest state after these events; those about unknown items wait."""
        events = [one.event for one in arrivals]
        vectors = [queries[e.query.text] if e.query else self.catalogue.vector(e.item) for e in events]
        unknown = [event.item for event, vector in zip(events, vectors, strict=True) if vector is None]
        for item in unknown:
            self._waiting.setdefault(item, set()).add(user_id)
        interest = self.users.get(user_id).interest
        metrics.waiting_events_dropped.inc(max(0, len(unknown) + len(interest.waiting) - WAITING) if unknown else 0)
        interest = update_all(interest, events, vectors, self.decay)
        for purchase in filter(None, (one.taken_back for one in arrivals)):
            interest = without(interest, purchase, self.catalogue.vector(purchase.item), self.decay)
        return interest

    def choice(self, message: Happening) -> Feedback | None:
        """Give the item that the user chose from a list by this event, if there is one. A model learns from choices."""
        if not isinstance(message, Click) or message.list_id is None:
            return None
        if self.decay.weight(event_of(message, self.decay.weights, self._sentiment, self._dwell)) <= 0:
            return None
        return Feedback(list_id=message.list_id, item_id=message.item_id)

    def learn(self, user_id: str, event: Event, queries: Mapping[str, Vector] = MappingProxyType({})) -> None:
        """Apply an event that is known to be new to the user's interest alone. The caller counts it."""
        self.users.put(user_id, interest=self._learnt(user_id, [Arrival(event)], queries))

    def forget(self, user_id: str, time_ms: int) -> bool:
        """Erase the user's state; a hash and two times remain. See `Users.forget`."""
        waiting = self.users.get(user_id).interest.waiting
        if not self.users.forget(user_id, time_ms):
            return False
        for entry in waiting:
            self._waiting.get(int(entry["item"]), set()).discard(user_id)
        return True

    def take_in(self, user_id: str, visitor_id: str, merge: SeenEvent, state: UserState) -> bool:
        """Add a visitor's state to the user's, once. Their events were counted already. See `Users.take_in`."""
        if not self.users.take_in(user_id, visitor_id, merge, state, self.decay):
            return False
        for entry in self.users.get(user_id).interest.waiting:
            self._waiting.setdefault(int(entry["item"]), set()).add(user_id)
        self._settle(user_id)
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
        return self.put_dated(self.dates.dated(item, arrived_ms), vector)

    def put_dated(self, item: CatalogueItem, vector: Vector) -> list[str]:
        """Do the same with an item in the catalogue's form, from `dates`."""
        self.catalogue.put(item, vector)
        return [user_id for user_id in self._waiting.pop(item_key(item.item_id), ()) if self._settle(user_id)]

    def delete_item(self, item_id: str) -> None:
        """Take an item out of the catalogue."""
        self.dates.delete(item_id)
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
        self,
        user_id: str,
        trigger: Trigger | None,
        arrived_ms: int | None,
        feedback: Sequence[Feedback] = (),
        context: Mapping[str, str] | None = None,
        domain: str = "",
    ) -> RankRequest:
        """Step 3: recall the user's candidates, of a domain if one is given, and build the request to rank them.

        A key that rules read and the context lacks has the newest value that the user's events had. The user's wishes
        are in it.
        """
        record = self.users.get(user_id)
        lists = read(record.shown)
        shopper = self.requests.shopper(record.interest, {**record.context, **(context or {})}, lists, domain)
        shown = shown_to(record, self.visit_ms)
        wishes = RequestWishes(self.users.wishes.holding(user_id))
        sought, seeking = wishes.seeking(record.interest), shopper
        if sought is not record.interest:
            seeking = self.requests.shopper(sought, shopper.context, lists, domain)
        candidates = self.requests.recall(user_id, seeking, (), shown, wishes)
        request = self.requests.build(user_id, shopper, candidates, trigger, arrived_ms, feedback)
        return wishes.mark(marked(request, shown, shopper.unclicked), self.catalogue)

    def with_wishes(self, request: RankRequest) -> RankRequest:
        """Give a request with candidates of somebody else's the user's wishes."""
        return RequestWishes(self.users.wishes.holding(request.user_id)).mark(request, self.catalogue)

    def cold_start_request(self, as_of_ms: int, domain: str = "") -> RankRequest:
        """Step 3 for users without a list: items that are popular now, and items that are new."""
        request = self.request(COLD_START_USER, None, None, domain=domain)
        return msgspec.structs.replace(request, as_of=as_of_ms)

    def _settle(self, user_id: str) -> bool:
        """Apply the waiting events whose items are in the catalogue by now. Returns whether there was one."""
        before = self.users.get(user_id).interest
        after = settle(before, self.catalogue.vector, self.decay)
        if after is not before:
            self.users.put(user_id, interest=after)
        return after is not before
