"""Route an event to the partition of the user whose state it changes: another worker may hold that state.

The hash of the user's id gives the partition. An event names that user, or a visitor who was merged into the user.
Producers may partition the input topics in another way, and an input topic with another number of partitions is divided
among the workers in another way. The items and triples of the team's topics go to the topics `items` and `knowledge`,
which every reader of the catalogue reads. Knows nothing of states.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from streams import metrics
from streams.contracts import Forget
from streams.kafka.client import partition_of
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import OF_MERGE, RETURNED, TOLD, routed_headers
from streams.kafka.reject import rejected
from streams.receive.message import BadMessage, Message
from streams.receive.pseudonym import Pseudonymous
from streams.settings import Settings
from streams.state import transfer
from streams.state.pending import Pending
from streams.state.transfer import Sent

if TYPE_CHECKING:
    from streams.state.event_receiver import Change

ROUTED = "routed-events"
_PARTITION_SO = (
    "for an event on another partition than murmur2 of its user_id gives; send less text, or partition by murmur2 of "
    "the user_id"
)
_RAISE = (
    "for what is sent on to a topic that all workers read; send less text, or raise max.message.bytes of that topic"
)


class EventRouter:
    """Sends events to `routed-events`, items to `items` and triples to `knowledge`.

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

    def is_home(self, user_id: str, partition: int) -> bool:
        """Whether this is the user's partition, and this worker holds it."""
        return partition == partition_of(user_id.encode(), self._settings.kafka.partitions) in self.held_partitions

    def route(self, message: Message, decoded: Pseudonymous, user_id: str, written_ms: int, rewritten: bool) -> bool:
        """Send the event to the partition of a user, unless it lies there and this worker holds that partition.

        Parameters
        ----------
        message : Message
            The event as it was received.
        decoded : Click, Search, Preference, Impression, Forget or UserMerge
            The event, with pseudonyms of users.
        user_id : str
            The user whose state the event changes.
        written_ms : int
            When the event's first record was written.
        rewritten : bool
            `decoded` differs from `message`, so that it has to be encoded anew.

        Returns
        -------
        bool
            Whether the event was sent.
        """
        if self.is_home(user_id, message.partition):
            return False
        rewritten = rewritten or self._settings.pseudonym_key is not None
        value = msgspec.json.encode(decoded) if rewritten else message.value
        self._pending.messages.append(self._routed(message, decoded.user_id, value, user_id, written_ms))
        metrics.repartitioned.labels(message.topic).inc()
        metrics.events.labels(message.topic, "routed").inc()
        return True

    def addressed(self, change: Change, user_id: str, is_return: bool = False) -> Outgoing:
        """Make the message that sends an event to another user than it names, or back to the one whom it names.

        Parameters
        ----------
        change : Change
            An event, a search, a preference, an impression or a request to be forgotten.
        user_id : str
            The user whose state the event changes.
        is_return : bool
            The user that it was sent to does not know the one whom it names.
        """
        decoded: Any = change.decoded
        if change.ahead_ms:
            decoded = msgspec.structs.replace(decoded, timestamp=change.ahead_ms)
        value = msgspec.json.encode(decoded)
        routed = self._routed(change.message, decoded.user_id, value, user_id, change.written_ms)
        metrics.events.labels(change.message.topic, "routed").inc()
        return routed._replace(headers={**(routed.headers or {}), RETURNED: b""}) if is_return else routed

    def forgetting(self, user_id: str, time_ms: int, is_told: bool = False) -> Outgoing:
        """Make a request to forget a user. `is_told`: those into whom the user was merged are forgotten already."""
        value = msgspec.json.encode(Forget(user_id=user_id, timestamp=time_ms))
        headers = routed_headers("forget", time_ms) | ({TOLD: b""} if is_told else {})
        return Outgoing(self._settings.topic(ROUTED), user_id.encode(), value, None, headers)

    def between_workers(self, sent: Sent, written_ms: int) -> Outgoing:
        """Make the message that sends a question about a merge, or a visitor's state, to the user whom it is for."""
        key, headers = sent.user_id.encode(), routed_headers(OF_MERGE, written_ms)
        return Outgoing(self._settings.topic(ROUTED), key, transfer.encode(sent), None, headers)

    def _routed(self, message: Message, named: str, value: bytes | None, user_id: str, written_ms: int) -> Outgoing:
        headers = routed_headers(message.topic, written_ms, None if named == user_id else user_id)
        too_large = partial(self._too_large, message, ROUTED, _PARTITION_SO)
        return Outgoing(self._settings.topic(ROUTED), user_id.encode(), value, None, headers, too_large)

    def forward(self, message: Message, written_ms: int) -> None:
        """Send an item or a triple of a topic of the team's to `items` or `knowledge`, with the time of its record.

        So every worker reads it. The deletion of an item is sent on likewise.
        """
        topic = message.topic
        sent = Outgoing(self._settings.topic(topic), message.key, message.value, written_ms=written_ms)
        self._pending.messages.append(sent._replace(smaller=partial(self._too_large, message, topic, _RAISE)))
        metrics.events.labels(topic, "routed").inc()

    def _too_large(self, message: Message, topic: str, advice: str, max_bytes: int) -> Outgoing:
        """Give a dead letter instead: the producer's compression made the message fit, ours are uncompressed."""
        metrics.messages_cut.labels(topic).inc()
        size = len(message.value or b"")
        error = f"{message.topic}: got {size} bytes, expected at most {max_bytes} {advice}"
        return rejected(self._settings, message, BadMessage("too-large", error))
