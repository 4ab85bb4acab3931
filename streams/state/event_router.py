"""Route an event to the partition of its user, where another worker may hold the user's state.

The hash of the user id gives the partition. Producers may partition the input topics in another way, and an input topic
with another number of partitions is divided among the workers in another way. Knows nothing of states.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import msgspec

from streams import metrics
from streams.contracts import Click, Forget
from streams.kafka.client import partition_of
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import routed_headers
from streams.kafka.reject import rejected
from streams.receive.message import BadMessage, Message
from streams.settings import Settings
from streams.state.pending import Pending

ROUTED = "routed-events"


class EventRouter:
    """Sends events to `routed-events`.

    Parameters
    ----------
    settings : Settings
        Of the worker.
    pending : Pending
        Gets the routed messages.

    Attributes
    ----------
    held_partitions : collection of int
        Partitions of users that this worker holds; the caller keeps it up to date.
    """

    def __init__(self, settings: Settings, pending: Pending) -> None:
        self._settings = settings
        self._pending = pending
        self.held_partitions: Collection[int] = ()

    def route(self, message: Message, decoded: Click | Forget, written_ms: int, rewritten: bool) -> bool:
        """Send the event to the partition of its user, unless it lies there and this worker holds that partition.

        Parameters
        ----------
        message : Message
            The event as it was received.
        decoded : Click or Forget
            The event, with the pseudonym of its user.
        written_ms : int
            When the event's first record was written.
        rewritten : bool
            `decoded` differs from `message`, so that it has to be encoded anew.

        Returns
        -------
        bool
            Whether the event was sent.
        """
        key = decoded.user_id.encode()
        home = partition_of(key, self._settings.kafka.partitions)
        if home == message.partition and home in self.held_partitions:
            return False
        rewritten = rewritten or self._settings.pseudonym_key is not None
        value = msgspec.json.encode(decoded) if rewritten else message.value
        routed = Outgoing(self._settings.topic(ROUTED), key, value, None, routed_headers(message.topic, written_ms))
        self._pending.messages.append(routed._replace(smaller=partial(self._too_large, message)))
        metrics.repartitioned.labels(message.topic).inc()
        metrics.events.labels(message.topic, "routed").inc()
        return True

    def _too_large(self, message: Message, max_bytes: int) -> Outgoing:
        """Give a dead letter instead: the producer's compression made the event fit, a routed event is uncompressed."""
        metrics.messages_cut.labels(ROUTED).inc()
        size = len(message.value or b"")
        error = (
            f"{message.topic}: got {size} bytes, expected at most {max_bytes} for an event on another partition than "
            "murmur2 of its user_id gives; send less text, or partition by murmur2 of the user_id"
        )
        return rejected(self._settings, message, BadMessage("too-large", error))
