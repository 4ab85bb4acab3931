"""`afterclick export`: write recorded events with local differential privacy, as files that `train` reads.

Knows no mechanism.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

from streams.contracts import Click, Item, Purchase, UserEvent
from streams.datasets.event_log import EventLog
from streams.datasets.messages import InputError
from streams.datasets.private_log import PrivateLog, private_log
from streams.terminal.progress_bar import progress_bar
from streams.terminal.report import Field, Report, show

FILES: dict[type[Item | Click], str] = {
    Item: "items.jsonl",
    Click: "clicks.jsonl",
    Purchase: "purchases.jsonl",
    UserEvent: "events.jsonl",
}
encode = msgspec.json.Encoder().encode


def check(out: Path) -> None:
    """Make sure that no export is overwritten: two of the same events would each spend epsilon.

    Raises
    ------
    InputError
        The folder holds one.
    """
    if found := [name for name in FILES.values() if (out / name).exists()]:
        raise InputError(f"--out: got {out}, which holds {', '.join(found)}; expected a new folder")


def run(event_log: EventLog, epsilon: float, events_per_user: int | None, out: Path, to_json: bool) -> None:
    """Export a log and print what of it is protected, and how well.

    Raises
    ------
    InputError
        Epsilon is out of its range, or there is nothing to choose from.
    """
    with progress_bar(quiet=to_json) as stage:
        private = private_log(event_log, epsilon, events_per_user, stage("Randomising the events"))
    out.mkdir(parents=True, exist_ok=True)
    _write(out, (*event_log.items, *private.events))
    facts = {
        "out": str(out),
        "events": len(private.events),
        "items": len(event_log.items),
        "epsilon": private.epsilon,
        "user_epsilon": private.user_epsilon,
        "truth": private.truth,
        "left_out": {**event_log.left_out, **private.not_exported},
    }
    if to_json:
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        show(table(out, private, event_log.left_out))


def table(out: Path, private: PrivateLog, left_out: dict[str, int]) -> Report:
    """What was exported, and how well it is protected."""
    caption = "protected: item and type of each event; not protected: that there was an event, and its day"
    report = Report((Field(f"{out}"), Field("", number=True)), caption=caption)
    report.add("events", f"{len(private.events):,}")
    report.add("epsilon of an event", f"{private.epsilon:.6g}")
    report.add("epsilon of all events of the user who has the most", f"{private.user_epsilon:.6g}")
    report.add("events that keep their item and type", f"{private.truth:.2%}")
    for reason, count in {**left_out, **private.not_exported}.items():
        report.add(f"left out: {reason}", f"{count:,}")
    return report


def _write(out: Path, messages: Iterable[Item | Click]) -> None:
    """Write a file for each kind of message that there is, as JSON lines."""
    lines: dict[type[Item | Click], list[bytes]] = defaultdict(list)
    for message in messages:
        lines[type(message)].append(encode(message) + b"\n")
    for kind, of_kind in lines.items():
        (out / FILES[kind]).write_bytes(b"".join(of_kind))
