"""Step 1 for the records of the inputs: a record becomes messages of the contract, decoded and checked.

A record of a contract topic is one message. A record of a topic of the team's is any number of them, each for one
input. A record is accepted whole or rejected whole. Knows nothing of what a message causes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from streams.contracts import Item
from streams.kafka.own_messages import retried
from streams.kafka.record_time import Record, RecordTimes, receive_dated
from streams.kafka.schema_registry import registry_of
from streams.receive.decode import Accepted
from streams.receive.embeddings import EmbeddingNames
from streams.receive.inputs import Inputs
from streams.receive.message import Message, Tombstone
from streams.settings import Settings


class Received(NamedTuple):
    """One message of a record.

    Attributes
    ----------
    message : Message
        The message in the form of the contract: its topic is the input that it is for.
    decoded : Click, Search, Impression, Item, Triple, RankRequest, Forget, UserMerge or Tombstone
        The message, decoded and checked.
    written_ms : int
        When the record was written (milliseconds).
    coerced : list of str
        The kind of each value that deviated from the contract and was accepted.
    """

    message: Message
    decoded: Accepted | Tombstone
    written_ms: int
    coerced: list[str]


class RecordReader:
    """Reads records of contract topics and of the team's topics.

    Parameters
    ----------
    settings : Settings
        The names of the topics, the team's mappings, and the zone of times that name none.
    times : RecordTimes, optional
        Says which times of records are trusted.

    Attributes
    ----------
    embeddings : EmbeddingNames
        Which vectors of items are kept.
    """

    def __init__(self, settings: Settings, times: RecordTimes | None = None) -> None:
        self._prefix = settings.topic_prefix
        self._zone = settings.zone
        self._times = times or RecordTimes(settings.kafka)
        self._schemas = registry_of(settings.kafka)
        self._inputs = Inputs(settings)
        self._types = settings.interest.weights
        self.embeddings = EmbeddingNames(settings.candidates.dims)

    async def prepare(self, records: Sequence[Any], wait: bool = True) -> None:
        """Ask other services what `read` has to know of these records. To be called before `read`.

        Parameters
        ----------
        records : sequence of aiokafka.ConsumerRecord, or of faust's messages
        wait : bool
            Wait for a schema registry that is away. Otherwise `read` rejects the records that need it.
        """
        await self.look_up_times(records)
        missing = {schema_id for record in records for schema_id in self._missing(record)}
        await (self._schemas.learn if wait else self._schemas.ask)(missing)

    async def look_up_times(self, records: Iterable[Any]) -> None:
        """Ask Kafka what `read` has to know of these records' times."""
        await self._times.look(map(Record.of, records))

    def is_ready(self, record: Any) -> bool:
        """Tell whether a record's schemas are known. If not, the registry is asked for them meanwhile."""
        missing = self._missing(record)
        if missing:
            self._schemas.wants(missing)
        return not missing

    def _missing(self, record: Any) -> set[int]:
        return self._schemas.missing(record.key, record.value)

    def json_of(self, record: Any) -> bytes | None:
        """Return the value of a record as JSON, if it was in Confluent's wire format.

        Raises
        ------
        BadMessage
            There is no schema for it, or it is not as its schema says.
        """
        return self._schemas.plain(self.whole(record), []).value

    def is_mapped(self, topic: str) -> bool:
        """Tell whether a topic, by its full name, is one of the team's."""
        return self._inputs.is_mapped(topic)

    def whole(self, record: Any) -> Message:
        """Return the record itself, as it is in its topic: key and value are the record's own.

        The topic is the contract's name without the prefix, or the full name of a topic of the team's. A record that
        was rejected and sent again keeps the position of the first one. So its messages keep the `event_id` that is
        made from the position, and a record that is sent again twice counts once.
        """
        if not self.is_mapped(record.topic):
            name = record.topic.removeprefix(self._prefix)
            return Message(name, record.partition, record.offset, record.key, record.value)
        partition, offset = retried(record.headers) or (record.partition, record.offset)
        return Message(record.topic, partition, offset, record.key, record.value, mapped=True)

    def read(self, record: Any) -> list[Received]:
        """Decode and check all messages of a record.

        Returns
        -------
        list of Received
            Empty if the record of a topic of the team's is for no input.

        Raises
        ------
        BadMessage
            The record is rejected: it, or one of its messages, is wrong.
        """
        coerced = list[str]()
        plain = self._schemas.plain(self.whole(record), coerced)
        messages = [plain]
        if plain.mapped:
            messages = self._inputs.read(plain.topic, plain.partition, plain.offset, plain.key, plain.value)
        received = [self.receive(record, message) for message in messages]
        if received:
            received[0].coerced.extend(coerced)
        return received

    def receive(self, record: Any, message: Message, from_worker: bool = False) -> Received:
        """Decode and check one message of a record; see `streams.receive.decode.receive`.

        Raises
        ------
        BadMessage
        """
        coerced = list[str]()
        decoded, written_ms = receive_dated(
            self._times, Record.of(record), message, self._zone, from_worker, coerced, self._types
        )
        if isinstance(decoded, Item):
            decoded = self.embeddings.kept(decoded)
        return Received(message, decoded, written_ms, coerced)
