"""The steps in order: a message becomes a state, a state a request, a request a list.

Both tiers in one process, without Kafka and Redis. Workers run the same two tiers with Kafka between them.

    StateTier:  1 receive -> 2 interest -> 3 candidates
    RankTier:   4 score -> 5 select      (6 publish: left to the caller)
"""

from __future__ import annotations

from collections.abc import Sequence

from encoders.describe import context_words, describe_item
from encoders.text.vector_store import Encoder, rounded
from ranker.load import load_recall
from ranker.recall.trained import TrainedRecall
from ranker.score import Scorer
from streams.contracts import Click, Item, Preference, Recommendations, Search, Trigger, Triple
from streams.rank.tier import RankTier
from streams.receive.decode import receive
from streams.receive.message import Message
from streams.receive.user_events import type_of
from streams.settings import Settings
from streams.state.decays import counts_of
from streams.state.sources import catalogue_of, sources_of
from streams.state.stated_wishes import note_wish
from streams.state.tier import StateTier
from streams.state.users import Users
from streams.state.wish_reader import WishReader


class Pipeline:
    """Messages in, lists out.

    Parameters
    ----------
    settings : Settings
        Of a worker. There is no challenger: the one model ranks all lists.
    encoder : Encoder
        Encodes the items.
    scorer : Scorer or None
        None: keep the candidates' order.
    trained : TrainedRecall, optional
        What the model brought along for the recall. None: what the folder of the settings' model holds.

    Raises
    ------
    SettingsError
        A source of candidates is none.
    """

    def __init__(
        self, settings: Settings, encoder: Encoder, scorer: Scorer | None, trained: TrainedRecall | None = None
    ) -> None:
        self._encoder = encoder
        users, catalogue = Users({}, encoder.dim), catalogue_of(settings, encoder.dim)
        trained = trained or load_recall(settings.ranker.model)
        self.state = StateTier(settings, users, catalogue, counts_of(settings), sources_of(settings), [trained])
        self.ranking = RankTier(settings, scorer)
        self._wishes = WishReader(settings)

    def put_items(self, items: Sequence[Item], arrived_ms: int) -> None:
        """Take items into the catalogue, with the vectors that a worker stores."""
        vectors = rounded(self._encoder.encode([describe_item(item) for item in items]))
        for item, vector in zip(items, vectors, strict=True):
            self.state.put_item(item, vector, arrived_ms)

    def put_triples(self, triples: Sequence[Triple]) -> None:
        """Take triples into the knowledge graph."""
        for triple in triples:
            self.state.catalogue.knowledge.put(triple.head, triple.relation, triple.tail)

    def feed(self, message: Message, now_ms: int) -> Recommendations | None:
        """Take one event, search or wish through steps 1 to 5. Returns None if its user was forgotten since.

        Raises
        ------
        BadMessage
            As `receive` does.
        """
        event = receive(message, now_ms, types=self.state.decay.weights)
        if isinstance(event, Preference):
            return self._wish(event, now_ms)
        if not isinstance(event, (Click, Search)):
            raise TypeError(f"got a message of {message.topic}, expected an event, a search or a preference")
        queries = {event.text: self._encoder.encode_events([event.text])[0]} if isinstance(event, Search) else {}
        if self.state.accept(event.user_id, [event], queries) == ["forgotten"]:
            return None
        trigger = Trigger(event_id=event.event_id, type=type_of(event))
        feedback = [chosen] if (chosen := self.state.choice(event)) else []
        request = self.state.request(event.user_id, trigger, now_ms, feedback, context_words(event.context))
        return self.ranking.rank([request], now_ms)[0]

    def _wish(self, message: Preference, now_ms: int) -> Recommendations | None:
        read, state = self._wishes.read(message), self.state
        vectors = dict(zip(read.sought, self._encoder.encode_events(read.sought), strict=True)) if read.sought else {}
        if note_wish(state.users, message.user_id, message, read, vectors, state.decay) == "forgotten":
            return None
        trigger = Trigger(event_id=message.event_id, type="preference")
        return self.ranking.rank([state.request(message.user_id, trigger, now_ms)], now_ms)[0]
