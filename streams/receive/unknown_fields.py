"""Count the fields of a message that its contract does not have, and name each once: a misspelt field is not silent.

The message is accepted all the same, so that a producer may send more than a worker knows. Costs as much as decoding:
only for messages that are few.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import msgspec

from streams import metrics
from streams.contracts import TOPICS
from streams.receive.wire_formats import BOM

logger = logging.getLogger(__name__)

MAX_NAMED = 100
"""Names that are logged; chosen by us: a producer that makes names up must not fill the log."""
MAX_CHARACTERS = 80


class UnknownFields:
    """The unknown fields of one topic's messages.

    Parameters
    ----------
    topic : str
        The contract's name.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._count = metrics.unknown_fields.labels(topic)
        self._named: set[str] = set()

    def note(self, value: bytes) -> None:
        """Count the unknown fields of a message that was accepted; those of all members of a list count once."""
        paths = set(_paths(msgspec.json.decode(value.removeprefix(BOM)), TOPICS[self._topic], ""))
        self._count.inc(len(paths))
        for path in sorted(paths - self._named)[: MAX_NAMED - len(self._named)]:
            self._named.add(path)
            logger.warning(
                "%s: got the field %s, which no worker reads; see `afterclick schema %s` for the names",
                self._topic,
                path[:MAX_CHARACTERS],
                self._topic,
            )


def _paths(decoded: Any, struct: type[msgspec.Struct], path: str) -> Iterator[str]:
    """Give the path of each field that a struct does not have."""
    if isinstance(decoded, list):
        for member in decoded:
            yield from _paths(member, struct, f"{path}[]")
    elif isinstance(decoded, dict):
        known = _fields(struct)
        for name, value in decoded.items():
            full = f"{path}.{name}" if path else name
            if name not in known:
                yield full
            elif (nested := known[name]) is not None:
                yield from _paths(value, nested, full)


@cache
def _fields(struct: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct] | None]:
    """Give the fields of a struct, each with the struct that it holds, be it in a list."""
    return {field.encode_name: next(_structs(field.type), None) for field in msgspec.structs.fields(struct)}


def _structs(type_: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        yield type_
    for argument in get_args(type_):
        yield from _structs(argument)
