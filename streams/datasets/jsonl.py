"""Read files that hold the topics' own JSON, one message a line, and keep every message byte for byte.

A line is decoded only to find its key and its time; the worker decides whether it is a valid message. Memory does not
grow with the files. Knows nothing of Kafka.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any

import msgspec

from encoders.event_time import milliseconds
from streams.contracts import TOPICS, Timestamp
from streams.datasets.messages import InputError, ReplayMessage
from streams.receive.decode import EARLIEST_MS, FUTURE_MS
from streams.receive.lenient import fit
from streams.receive.wire_formats import BOM


@dataclass(frozen=True)
class JsonLines:
    """Files by topic, one message a line. Each file keeps its order; all but items are merged by time.

    A line without a believable time keeps its position after the line before it.

    Attributes
    ----------
    files : mapping of str to Path
        By topic.
    counts : dict of str to int
        See `Replay.counts`.
    zone : tzinfo or None
        Of times without a zone.
    """

    files: Mapping[str, Path]
    counts: dict[str, int]
    zone: tzinfo | None = None

    @property
    def sizes(self) -> dict[str, int]:
        return {topic: self.counts[topic] for topic in self.files}

    def messages(self) -> Iterator[ReplayMessage]:
        if "items" in self.files:
            yield from (message for _, message in _timed_lines("items", self.files["items"], self.zone))
        by_topic = [_timed_lines(topic, path, self.zone) for topic, path in self.files.items() if topic != "items"]
        yield from (message for _, message in heapq.merge(*by_topic, key=lambda timed: timed[0]))


def jsonl(
    items: Path | None = None,
    clicks: Path | None = None,
    purchases: Path | None = None,
    impressions: Path | None = None,
    zone: tzinfo | None = None,
) -> JsonLines:
    """Open files that hold the topics' own JSON, one message a line.

    Parameters
    ----------
    items, clicks, purchases, impressions : Path, optional
        The file of each topic.
    zone : tzinfo, optional
        Of times without a zone. If it is None, such lines keep their position after the line before them.

    Notes
    -----
    The bytes between two line feeds are sent unchanged. Blank lines are left out, and counted as `blank`.

    Raises
    ------
    InputError
        No file is given, or one cannot be read.
    """
    given = {"items": items, "clicks": clicks, "purchases": purchases, "impressions": impressions}
    files = {topic: path for topic, path in given.items() if path is not None}
    if not files:
        raise InputError("got no file; expected at least one of --items, --clicks, --purchases")
    counts: Counter[str] = Counter()
    for topic, path in files.items():
        try:
            with path.open("rb") as lines:
                rows = blank = 0
                for line in lines:
                    rows += 1
                    blank += line.isspace()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; expected a file of JSON, one message a line") from error
        counts.update({"rows": rows, topic: rows - blank, "blank": blank})
    return JsonLines(files, dict(counts), zone)


def _timed_lines(topic: str, path: Path, zone: tzinfo | None) -> Iterator[tuple[int, ReplayMessage]]:
    """The messages, each with the time to merge it by."""
    latest_ms = int(time.time() * 1000) + FUTURE_MS
    merge_ms = 0
    with path.open("rb") as lines:
        for line in lines:
            if line.isspace():
                continue
            value = line.removesuffix(b"\n")
            key, time_ms = _key_and_time(topic, value, zone)
            if time_ms is not None and not EARLIEST_MS <= time_ms <= latest_ms:
                time_ms = None
            merge_ms = merge_ms if time_ms is None else time_ms
            yield merge_ms, ReplayMessage(topic, key, value, time_ms)


def _key_and_time(topic: str, value: bytes, zone: tzinfo | None) -> tuple[bytes | None, int | None]:
    try:
        fields = msgspec.json.decode(value.removeprefix(BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    if not isinstance(fields, dict):
        return None, None
    fitted, _ = fit(fields, TOPICS[topic], zone)
    key = fitted.get("item_id" if topic == "items" else "user_id")
    try:
        moment: Any = msgspec.convert(fitted.get("timestamp"), Timestamp)
    except msgspec.ValidationError:
        moment = None
    return (
        key.encode() if isinstance(key, str) and key else None,
        None if moment is None else milliseconds(moment),
    )
