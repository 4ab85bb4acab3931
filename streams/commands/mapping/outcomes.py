"""What becomes of records: the messages that a worker would take from each, or why it would take none.

Knows no terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streams.kafka.record_reader import Received, RecordReader
from streams.receive.message import BadMessage
from streams.receive.record_values import lookup, payload
from streams.receive.wire_formats import BOM
from streams.settings.record_path import parse

EXAMPLES = 2
"""Records that are shown for each outcome."""
NOT_OURS, REJECTED = "for no input", "rejected"


class Example(msgspec.Struct, frozen=True):
    """One record and what became of it.

    Attributes
    ----------
    partition, offset : int
    key, value : bytes or None
        Of the record.
    messages : list of msgspec.Raw or None
        The messages of the contract, in JSON; null deletes the item that the key names.
    keys : list of str
        Their keys.
    error : str
        Why the record is rejected.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    messages: list[msgspec.Raw | None] = []
    keys: list[str] = []
    error: str = ""


@dataclass
class Outcome:
    """The records to which the same happened.

    Attributes
    ----------
    name : str
        The inputs that take the records, `for no input` or `rejected`.
    records, messages : int
        How many records, and how many messages are in them.
    causes : Counter of str
        Why records are rejected; of those for no input, what they have at the paths of `where`.
    coerced : Counter of str
        Deviations from the contract that are accepted, by kind.
    examples : list of Example
    """

    name: str
    records: int = 0
    messages: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    coerced: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)


async def judge(reader: RecordReader, records: Sequence[Any], where: Collection[str] = ()) -> list[Outcome]:
    """Return what a worker would make of these records, the most frequent outcome first; rejected ones come last.

    Parameters
    ----------
    reader : RecordReader
        With the mappings to try.
    records : sequence of aiokafka.ConsumerRecord
    where : collection of str
        The paths by which these mappings choose records.
    """
    finders = {path: lookup(parse(path), each=False) for path in where}
    await reader.prepare(records, wait=False)
    outcomes: dict[str, Outcome] = {}
    seen: set[tuple[str, str]] = set()
    for record in records:
        received, error = _read(reader, record)
        inputs = dict.fromkeys(one.message.topic for one in received)
        name = REJECTED if error else " and ".join(inputs) or NOT_OURS
        outcome = outcomes.setdefault(name, Outcome(name))
        outcome.records += 1
        outcome.messages += len(received)
        outcome.coerced.update(kind for one in received for kind in one.coerced)
        if error:
            outcome.causes[error.cause] += 1
        elif not received and record.value is not None:
            decoded = payload(msgspec.json.decode((reader.json_of(record) or b"null").removeprefix(BOM)))
            outcome.causes.update(f"{path} = {_text(find(decoded, decoded))}" for path, find in finders.items())
        kind = (name, error.cause if error else "")  # each cause has an example
        if len(outcome.examples) < EXAMPLES or (error and kind not in seen and len(outcome.examples) < 3 * EXAMPLES):
            outcome.examples.append(_example(record, received, error))
        seen.add(kind)
    return sorted(outcomes.values(), key=lambda one: (one.name == REJECTED, one.name == NOT_OURS, -one.records))


def _text(value: Any) -> str:
    """Write a value as TOML has it; nothing for what is not there."""
    return "nothing" if value is None else msgspec.json.encode(value).decode()


def _read(reader: RecordReader, record: Any) -> tuple[list[Received], BadMessage | None]:
    try:
        return reader.read(record), None
    except BadMessage as error:
        return [], error


def _example(record: Any, received: Sequence[Received], error: BadMessage | None) -> Example:
    values = [one.message.value for one in received]
    return Example(
        record.partition,
        record.offset,
        record.key,
        record.value,
        [None if value is None else msgspec.Raw(value) for value in values],
        [(one.message.key or b"").decode(errors="replace") for one in received],
        str(error) if error else "",
    )
