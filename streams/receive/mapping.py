"""Map a record of a team's own topic or file to messages of the contract, as a table of the settings says.

Pure: knows neither Kafka nor files. `streams.receive.decode` validates what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from streams.receive import wire_formats
from streams.receive.field_reader import FieldReader, field_reader, place_of, texts_of
from streams.receive.message import BadMessage, MappedFrom
from streams.receive.near_paths import near
from streams.receive.record_values import has_value, lookup, payload
from streams.settings.mapped_fields import mapped_fields
from streams.settings.record_path import RecordPath, parse
from streams.settings.topics import Scalars, TopicSource

MAX_MEMBERS = 1_000
"""Members of `each` in one record; chosen by us: one record must not become a load of its own."""
_Test = Callable[[Any], bool]


class Mapping:
    """One topic's mapping to one input, compiled.

    Parameters
    ----------
    input_name : str
        The input that the records feed, one of `MAPPED_INPUTS`.
    source : TopicSource
        Where the fields are, as `streams.settings.topics` has checked it.

    Attributes
    ----------
    mapped_from : MappedFrom
        The topic and the paths, for the errors of what comes out.
    """

    def __init__(self, input_name: str, source: TopicSource) -> None:
        self.input_name = input_name
        self.source = source
        self._title = f"{input_name} from {source.name}"
        self._each = [lookup(parse(path), each=False) for path in texts_of(source.each)]
        self._where, self._delete = _tests(source.where), _tests(source.delete)
        known = mapped_fields(input_name)
        self._fields = [
            field_reader(name, field, source.fields[name], source, self._title)
            for name, field in known.items()
            if source.fields.get(name)
        ]
        self._constants = dict(source.constants)
        self._event_id = "event_id" in known
        self._types = source.types
        self.mapped_from = MappedFrom(source.name, {field.name: field.place for field in self._fields})

    def apply(self, record: Any, where_from: str) -> list[dict[str, Any]]:
        """Give the messages of a record.

        Parameters
        ----------
        record : object
            The record, decoded from JSON.
        where_from : str
            What is unique for the record and stays so: `topic/partition/offset` or `file/line`. It is the `event_id`
            of an event that has none; `each` appends the index of the member.

        Returns
        -------
        list of dict
            Objects of the contract, not validated yet. Empty if `where` does not hold, or the record deletes an item.

        Raises
        ------
        BadMessage
            The record is no object, or a required field has no value. The text names the path.
        """
        record = payload(record)
        if type(record) is not dict:
            raise self._bad(f"got {wire_formats.of_json(record)}", "no object")
        if not _hold(self._where, record) or (self._delete and _hold(self._delete, record)):
            return []
        if not self._each:
            return [self._message(record, record, where_from, None)]
        return [self._message(member, record, where_from, index) for index, member in self._members(record)]

    def why_not_meant(self, record: Any) -> str:
        """Say which test of `where` a record fails, for people; an empty text if it fails none."""
        record = payload(record)
        for (path, values), test in zip(self.source.where.items(), self._where, strict=True):
            if not test(record):
                got = lookup(parse(path), each=False)(record, record)
                return f"got {str(got)[:60]!r} at {path}, expected {' or '.join(map(str, values))}"
        return ""

    def deleted_item(self, record: Any, key: bytes | None) -> str | None:
        """Give the id of the item that a record deletes; None if it deletes none.

        A null value deletes the item that the key names: as text, as JSON, or in that field of the key which is called
        as the last name in the path of `item_id`, or is the only one.

        Parameters
        ----------
        record : object
            The record, decoded from JSON; None for a null value.
        key : bytes, optional
            The record's key.

        Raises
        ------
        BadMessage
            The record deletes an item, but does not say which.
        """
        if self.input_name != "items":
            return None
        if record is None:
            return self._item_of_key(key)
        record = payload(record)
        if not self._delete or not _hold(self._where, record) or not _hold(self._delete, record):
            return None
        members = [member for _, member in self._members(record)] if self._each else [record]
        if len(members) != 1:
            place, cause = place_of(self.source.each), "delete: not one item"
            raise self._bad(f"delete: got {len(members)} members at {place}, expected one item a record", cause)
        (item_id,) = (field for field in self._fields if field.name == "item_id")
        if type(deleted := item_id.read(members[0], record)) is not str:
            raise self._missing(item_id, None, members[0], record)
        return deleted

    def _message(self, member: Any, record: Any, where_from: str, index: int | None) -> dict[str, Any]:
        message = self._constants.copy()
        for field in self._fields:
            if (value := field.read(member, record)) is not None:
                message[field.name] = value
            elif field.required and field.name not in message and field.name != "event_id":
                raise self._missing(field, index, member, record)
        if self._types and type(type_ := message.get("type")) is str:
            message["type"] = self._types.get(type_, type_)
        if self._event_id:
            event_id = message.setdefault("event_id", where_from)
            if index is not None and type(event_id) is str:
                message["event_id"] = f"{event_id}/{index}"
        return message

    def _members(self, record: dict[str, Any]) -> Iterator[tuple[int | None, Any]]:
        """Give the members of `each` with their indices; an object is the only one, and has none."""
        found = next((value for find in self._each if (value := find(record, record)) is not None), None)
        place = place_of(self.source.each)
        if type(found) is dict:
            yield None, found
        elif type(found) is not list:
            got = "no value" if found is None else repr(found)[:60]
            raise self._bad(f"each: got {got} at {place}, expected a list or an object", f"each: no list at {place}")
        elif len(found) > MAX_MEMBERS:
            error = f"each: got {len(found)} members at {place}, expected at most {MAX_MEMBERS}; send several messages"
            raise self._bad(error, f"each: more than {MAX_MEMBERS} members at {place}")
        else:
            yield from enumerate(found)

    def _item_of_key(self, key: bytes | None) -> str:
        if not key:
            raise self._bad(
                "got a null value without a key, expected the item_id as key: it deletes the item", "no key"
            )
        try:
            text = key.decode()
        except UnicodeDecodeError:
            raise self._bad(f"got the key {key!r}, expected UTF-8", "key is not UTF-8", "key") from None
        try:
            decoded = payload(msgspec.json.decode(key))
        except (msgspec.DecodeError, RecursionError):
            return text
        if type(decoded) is dict and decoded:
            (item_id,) = (field for field in self._fields if field.name == "item_id")
            names = [path.steps[-1] for path in self._paths(item_id) if path.steps]
            only = next(iter(decoded.values())) if len(decoded) == 1 else None
            decoded = next((decoded[name] for name in names if name in decoded), only)
            if type(decoded) not in (str, int):
                raise self._bad(f"got the key {text[:200]}, expected the item_id in it", "no item_id in the key", "key")
        return decoded if isinstance(decoded, str) else str(decoded) if type(decoded) is int else text

    def _missing(self, field: FieldReader, index: int | None, member: Any, record: Any) -> BadMessage:
        which = "" if index is None else f" (member {index} of {place_of(self.source.each)})"
        hint = next(filter(None, (self._near(path, member, record) for path in self._paths(field))), "")
        return self._bad(
            f"{field.name} missing: got no value at {field.place}{which}, expected one; correct the path, or narrow "
            f"`where`{'; ' if hint else ''}{hint}",
            f"{field.name} missing at {field.place}",
        )

    def _near(self, path: RecordPath, member: Any, record: Any) -> str:
        if self._each and not path.in_record and type(member) is dict:
            return near(path, member, "the member")
        return near(path, record)

    def _paths(self, field: FieldReader) -> list[RecordPath]:
        """Parse the paths of a required field, none of which is an object of names."""
        paths = self.source.fields[field.name]
        return [] if isinstance(paths, dict) else [parse(path) for path in texts_of(paths)]

    def _bad(self, error: str, cause: str, reason: str = "invalid") -> BadMessage:
        return BadMessage(reason, f"{self._title}: {error}", cause)


def _tests(where: dict[str, Scalars]) -> list[_Test]:
    """Compile `where`."""
    parsed = ((parse(path), values) for path, values in where.items())
    return [has_value(lookup(path, each=False), values, None in path.steps) for path, values in parsed]


def _hold(tests: list[_Test], record: Any) -> bool:
    return all(test(record) for test in tests)
