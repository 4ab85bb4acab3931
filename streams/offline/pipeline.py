"""The steps in order: a message becomes a state, a state a request, a request a list.

Both tiers in one process, without Kafka and Redis. Workers run the same two tiers with Kafka between them.

    StateTier:  1 receive -> 2 interest -> 3 candidates
    RankTier:   4 score -> 5 select      (6 publish: left to the caller)
"""

from __future__ import annotations

from collections.abc import Sequence

from encoders.describe import describe_item
from encoders.text.encoder import TextEncoder
from ranker.recall.candidates import BUILT_IN
from ranker.recall.catalogue import Catalogue
from ranker.score import Scorer
from streams.contracts import Click, Feedback, Item, Recommendations, Trigger
from streams.rank.tier import RankTier
from streams.receive.decode import Message, receive
from streams.settings import Settings
from streams.state.tier import StateTier, counts_of, type_of
from streams.state.users import Users


class Pipeline:
    """Messages in, lists out.

    Parameters
    ----------
    settings : Settings
    encoder : TextEncoder
        Encodes the items.
    scorer : Scorer or None
        None: keep the candidates' order.
    """

    def __init__(self, settings: Settings, encoder: TextEncoder, scorer: Scorer | None) -> None:
        self._encoder = encoder
        users = Users({}, encoder.dim)
        self.state = StateTier(settings, users, Catalogue(encoder.dim), counts_of(settings), BUILT_IN)
        self.ranking = RankTier(settings, scorer)

    def put_items(self, items: Sequence[Item], arrived_ms: int) -> None:
        """Take items into the catalogue."""
        for item, vector in zip(items, self._encoder.encode([describe_item(i) for i in items]), strict=True):
            self.state.put_item(item, vector, arrived_ms)

    def feed(self, message: Message, now_ms: int) -> Recommendations | None:
        """Take one click or purchase through steps 1 to 5. Returns None if its user was forgotten since.

        Raises
        ------
        BadMessage
            As `receive` does.
        """
        event = receive(message, now_ms)
        if not isinstance(event, Click):
            raise TypeError(f"got a message of {message.topic}, expected clicks or purchases")
        if self.state.accept(event.user_id, [event]) == ["forgotten"]:
            return None
        trigger = Trigger(event_id=event.event_id, type=type_of(event))
        feedback = [Feedback(list_id=event.list_id, item_id=event.item_id)] if event.list_id else []
        request = self.state.request(event.user_id, trigger, now_ms, feedback)
        return self.ranking.rank([request], now_ms)[0]
