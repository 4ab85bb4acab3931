"""Read files as messages of the contract, and account for every record that is none.

A file of which most of the first records are bad is refused. Later bad records are left out and counted, with the line
of the first of each kind. Memory grows with the number of different items alone. Knows nothing of Kafka.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import tzinfo
from itertools import chain
from pathlib import Path

from streams.datasets.field_options import FieldOptions, merged
from streams.datasets.first_records import FirstRecords, messages_of
from streams.datasets.input_file import InputFile
from streams.datasets.messages import Account, InputError, ReplayMessage
from streams.datasets.record_shapes import Checked, ContractCheck, ContractShape, Shape, configured, profile_shape
from streams.settings.profile import PROFILES
from streams.settings.topics import TopicsSettings

NO_TOPICS, NO_OPTIONS = TopicsSettings(), FieldOptions()


@dataclass
class _Pass:
    """One reading of a file.

    Attributes
    ----------
    items : bool
        Give the items alone, or all but the items.
    counts : bool
        The records are counted in this pass.
    """

    file: InputFile
    shape: Shape
    items: bool
    counts: bool = True


class FileMessages:
    """Files as messages: items first, then the events.

    Parameters
    ----------
    files : sequence of tuple of InputFile and Shape
    zone : tzinfo, optional
        Of times without a zone; without it, they are refused.
    by_time : bool
        Merge the events of the files by time; each file keeps its order. Otherwise one file comes after the other.
    types : collection of str, optional
        The types of events that have a weight; others are refused. None: any.
    """

    def __init__(
        self,
        files: Sequence[tuple[InputFile, Shape]],
        zone: tzinfo | None = None,
        by_time: bool = True,
        types: Collection[str] | None = None,
    ) -> None:
        self._check, self._by_time = ContractCheck(zone, types), by_time
        self.account = Account()
        self.topics = tuple(dict.fromkeys(topic for _, shape in files for topic in shape.topics))
        of_events = [file for file, shape in files if shape.topics != ("items",)]
        has_items = [(file, shape) for file, shape in files if "items" in shape.topics]
        self._items = [_Pass(copy(file), shape, True, shape.topics == ("items",)) for file, shape in has_items]
        self._items_of_events = any(file.path == each.path for file, _ in has_items for each in of_events)
        self._events = [_Pass(file, shape, False) for file, shape in files if shape.topics != ("items",)]

    def checked(self) -> Iterator[Checked]:
        """Yield the messages, decoded and valid."""
        self.account = Account()
        yield from chain.from_iterable(map(self._read, self._items))
        events = [self._read(each) for each in self._events]
        yield from heapq.merge(*events, key=lambda made: made.time_ms or 0) if self._by_time else chain(*events)

    def messages(self) -> Iterator[ReplayMessage]:
        """Yield the messages to send. JSON of the contract's own shape stays byte for byte as it is in the file.

        Of a file of orders, which has an item in each row, the last row of each item is sent, for only that one counts.
        Of a file of items a record is sent unless it is as the one before of its item.
        """
        contents: dict[bytes, int] = {}
        last: dict[bytes, ReplayMessage] = {}
        for message in (made.to_send() for made in self.checked()):
            if message.topic != "items":
                yield from last.values()
                last.clear()
                yield message
                continue
            content = hash(message.value)
            if message.key in last or contents.get(message.key) == content:
                self.account.superseded_items += 1
            if self._items_of_events:
                last[message.key] = message
            elif contents.get(message.key) != content:
                contents[message.key] = content
                yield message
        yield from last.values()

    def progress(self, taken: int) -> tuple[int, int]:
        """How many bytes are read, and how many there are; see `Replay`."""
        files = [each.file for each in (*self._items, *self._events)]
        return sum(file.position for file in files), sum(file.size for file in files)

    def _read(self, each: _Pass) -> Iterator[Checked]:
        account = self.account if each.counts else Account()
        for record in each.file.records():
            made = messages_of(each.file, each.shape, record, self._check, account)
            yield from (one for one in made if (one.topic == "items") is each.items)


def topic_files(
    paths: Mapping[str, Path | Sequence[Path] | None],
    options: FieldOptions = NO_OPTIONS,
    topics: TopicsSettings = NO_TOPICS,
    zone: tzinfo | None = None,
    types: Collection[str] | None = None,
) -> FileMessages:
    """Open files of one topic each, and check their first records.

    Parameters
    ----------
    paths : mapping of str to Path, sequence of Path or None
        Topic -> its file or files.
    options : FieldOptions
        Where the fields are. For a file that they describe no other shape is tried.
    topics : TopicsSettings
        Other shapes: for each file the first one that fits is taken; the contract's own comes last.
    zone : tzinfo, optional
        Of times without a zone.
    types : collection of str, optional
        The types of events that have a weight; others are refused. None: any.

    Raises
    ------
    InputError
        No file is given, or one cannot be read, or most of its first records are bad.
    """
    given = {topic: [path] if isinstance(path, Path) else path for topic, path in paths.items() if path}
    if not given:
        raise InputError(f"got no file; expected at least one of {', '.join(f'--{topic}' for topic in paths)}")
    files = {topic: [FirstRecords(InputFile(path)) for path in of_topic] for topic, of_topic in given.items()}
    named = options.shapes({topic: merged([file.header for file in of_topic]) for topic, of_topic in files.items()})
    fitting = []
    for topic, of_topic in files.items():
        others: list[Shape] = [*configured(topic, topics.of(topic)), ContractShape(topic)]
        shapes = [named[topic]] if topic in named else others
        fitting += [(file.file, file.fitting(shapes, ContractCheck(zone, types))) for file in of_topic]
    return FileMessages(fitting, zone)


def profile_files(
    profile: str,
    paths: Sequence[Path],
    topics: TopicsSettings = NO_TOPICS,
    zone: tzinfo | None = None,
    types: Collection[str] | None = None,
) -> FileMessages:
    """Open files of another system, whose records may feed several topics, and check their first records.

    Raises
    ------
    InputError
        There is no such profile, or a file cannot be read, or most of its first records are bad.
    streams.settings.SettingsError
        The profile lacks what only a table of the user's can say.
    """
    if profile not in PROFILES:
        raise InputError(f"import: got the profile {profile!r}, expected one of {', '.join(PROFILES)}")
    shape = profile_shape(profile, topics)
    files = [FirstRecords(InputFile(path)) for path in paths]
    return FileMessages(
        [(each.file, each.fitting([shape], ContractCheck(zone, types))) for each in files], zone, False, types
    )
