"""Recorded items and events for an evaluation: files of the topics' own JSON, or a public data set.

Every message is validated as a worker does it; what it would refuse is counted by reason and left out, and so are
events about items that the catalogue never had. Knows no protocol; called by `command`, and by training.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

from encoders.event_time import milliseconds
from ranker.evaluation.protocols import Interaction, Shown
from streams.contracts import Click, Impression, Item, Purchase
from streams.datasets.jsonl import jsonl
from streams.datasets.messages import InputError, Progress
from streams.datasets.online_retail import online_retail
from streams.datasets.shop import Shop
from streams.receive.decode import receive
from streams.receive.message import BadMessage, Message, Tombstone

DATASETS = ("online-retail", "generated-shop")
GENERATED_ITEMS, GENERATED_SHOPPERS, GENERATED_EVENTS = 3_000, 600, 12_000
"""Of a generated shop: some minutes to learn from."""


@dataclass(frozen=True)
class Recorded:
    """A catalogue and what was done with it.

    Attributes
    ----------
    items : each id once, as it was last.
    events : in no order that counts.
    shown : lists that were shown.
    left_out : messages by the reason that leaves them out.
    """

    items: list[Item]
    events: list[Interaction]
    shown: list[Shown]
    left_out: dict[str, int]


def read_jsonl(
    items: Path,
    clicks: Path | None = None,
    purchases: Path | None = None,
    impressions: Path | None = None,
    zone: tzinfo | None = None,
) -> Recorded:
    """Read files of JSON, one message a line; times without a zone are of `zone`, or refused.

    A repeated event (`event_id`, topic, user and item are the same) counts once, as in a worker.

    Raises
    ------
    InputError
        A file cannot be read, or there are neither clicks nor purchases.
    """
    if clicks is None and purchases is None:
        raise InputError("got no events; expected --clicks, --purchases or both")
    now_ms = int(time.time() * 1000)
    catalogue: dict[str, Item] = {}
    events: list[Interaction] = []
    shown: list[Shown] = []
    left_out: Counter[str] = Counter()
    met: set[tuple[str, str, str, str]] = set()
    for topic, key, value, _ in jsonl(items, clicks, purchases, impressions, zone).messages():
        try:
            message = receive(Message(topic, 0, 0, key, value), now_ms, zone)
        except BadMessage as error:
            left_out[f"{topic}: {error.reason}"] += 1
            continue
        if isinstance(message, Item):
            catalogue[message.item_id] = message
        elif isinstance(message, Impression):
            shown.append(Shown(message.list_id, message.user_id, tuple(message.items), milliseconds(message.timestamp)))
        elif isinstance(message, Click):
            identity = (topic, message.user_id, message.event_id, message.item_id)
            if identity in met:
                left_out[f"{topic}: repeated"] += 1
            else:
                met.add(identity)
                events.append(_interaction(message))
        elif isinstance(message, Tombstone):
            raise AssertionError("a line of a file is never null")
    return _known(list(catalogue.values()), events, shown, left_out)


def read_dataset(name: str, path: Path, progress: Progress | None = None) -> Recorded:
    """Read a public data set, or the generated shop of a seed, which stands for the path.

    Raises
    ------
    InputError
        There is no such data set, or the file is not it.
    """
    if name not in DATASETS:
        raise InputError(f"--dataset: got {name!r}, expected one of {', '.join(DATASETS)}")
    if name == "generated-shop":
        if not str(path).isdecimal():
            raise InputError(f"--dataset {name}: got {str(path)!r}, expected a seed, such as 7")
        return generated(int(str(path)))
    shop = online_retail(path, progress)
    return _known(shop.items, map(_interaction, shop.events), [], Counter())


def generated(seed: int, events: int = GENERATED_EVENTS) -> Recorded:
    """The first events of the generated shop of a seed."""
    shop = Shop(seed, GENERATED_ITEMS, GENERATED_SHOPPERS)
    return _known(shop.items, map(_interaction, shop.events(events)), [], Counter())


def _interaction(event: Click) -> Interaction:
    return Interaction(
        user=event.user_id,
        item=event.item_id,
        time_ms=milliseconds(event.timestamp),
        kind="purchase" if isinstance(event, Purchase) else "click",
        basket=event.session_id,
        shown_in=event.list_id,
    )


def _known(items: list[Item], events: Iterable[Interaction], shown: list[Shown], left_out: Counter[str]) -> Recorded:
    """Leave out what is about unknown items."""
    ids = {item.item_id for item in items}
    every = list(events)
    kept = [event for event in every if event.item in ids]
    lists = [one._replace(items=tuple(item for item in one.items if item in ids)) for one in shown]
    if len(kept) < len(every):
        left_out["events about items that are not in the catalogue"] = len(every) - len(kept)
    if unknown := sum(len(one.items) for one in shown) - sum(len(one.items) for one in lists):
        left_out["shown items that are not in the catalogue"] = unknown
    if not kept:
        raise InputError(f"got no event about any of {len(ids):,} items; expected the same item_id in both")
    return Recorded(items, kept, lists, dict(left_out))
