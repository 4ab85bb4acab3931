"""Event logs for training and evaluation: read from files of the topics' own JSON, or from a public data set.

Every message is validated as in a worker. A message that a worker would reject is counted by reason and left out, and
so is an event about an item that the catalogue never had. Knows no protocol of evaluation.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

from encoders.event_time import milliseconds
from ranker.evaluation.protocols import Interaction, ShownList
from ranker.progress import Progress
from streams.contracts import Click, Impression, Item, Purchase
from streams.datasets.jsonl import jsonl
from streams.datasets.messages import InputError
from streams.datasets.online_retail import online_retail
from streams.datasets.shop import SyntheticShop
from streams.receive.decode import BadMessage, Message, Tombstone, receive

DATASETS = ("online-retail", "generated-shop")
SYNTHETIC_ITEMS, SYNTHETIC_SHOPPERS, SYNTHETIC_EVENTS = 3_000, 600, 12_000
"""Of the synthetic shop: some minutes of training."""


@dataclass(frozen=True)
class EventLog:
    """A catalogue, and the events about its items.

    Attributes
    ----------
    items : list of Item
        Each id once, in its latest version.
    events : list of Interaction
        In any order.
    shown_lists : list of ShownList
    left_out : dict of str to int
        The number of messages by the reason that leaves them out.
    """

    items: list[Item]
    events: list[Interaction]
    shown_lists: list[ShownList]
    left_out: dict[str, int]


def read_jsonl(
    items: Path,
    clicks: Path | None = None,
    purchases: Path | None = None,
    impressions: Path | None = None,
    zone: tzinfo | None = None,
) -> EventLog:
    """Read files of JSON, one message a line.

    A repeated event (the same topic, `event_id`, user and item) counts once, as in a worker.

    Parameters
    ----------
    items, clicks, purchases, impressions : Path
        The file of each topic.
    zone : tzinfo, optional
        Of times without a zone; without it, they are left out.

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
    shown_lists: list[ShownList] = []
    left_out: Counter[str] = Counter()
    seen: set[tuple[str, str, str, str]] = set()
    for topic, key, value, _ in jsonl(items, clicks, purchases, impressions, zone).messages():
        try:
            message = receive(Message(topic, 0, 0, key, value), now_ms, zone)
        except BadMessage as error:
            left_out[f"{topic}: {error.reason}"] += 1
            continue
        if isinstance(message, Item):
            catalogue[message.item_id] = message
        elif isinstance(message, Impression):
            time_ms = milliseconds(message.timestamp)
            shown_lists.append(ShownList(message.list_id, message.user_id, tuple(message.items), time_ms))
        elif isinstance(message, Click):
            identity = (topic, message.user_id, message.event_id, message.item_id)
            if identity in seen:
                left_out[f"{topic}: repeated"] += 1
            else:
                seen.add(identity)
                events.append(_interaction(message))
        elif isinstance(message, Tombstone):
            raise AssertionError("a line of a file is never null")
    return _of_the_catalogue(list(catalogue.values()), events, shown_lists, left_out)


def read_dataset(name: str, path: Path, progress: Progress | None = None) -> EventLog:
    """Read a data set.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    path : Path
        Of its file; for the synthetic shop, the seed.
    progress : Progress, optional
        In bytes of the file.

    Raises
    ------
    InputError
        There is no such data set, or the file holds another one.
    """
    if name not in DATASETS:
        raise InputError(f"--dataset: got {name!r}, expected one of {', '.join(DATASETS)}")
    if name == "generated-shop":
        if not str(path).isdecimal():
            raise InputError(f"--dataset {name}: got {str(path)!r}, expected a seed, such as 7")
        return synthetic(int(str(path)))
    retail = online_retail(path, progress)
    return _of_the_catalogue(retail.items, map(_interaction, retail.events), [], Counter())


def synthetic(seed: int, events: int = SYNTHETIC_EVENTS) -> EventLog:
    """The first events of the synthetic shop of a seed."""
    shop = SyntheticShop(seed, SYNTHETIC_ITEMS, SYNTHETIC_SHOPPERS)
    return _of_the_catalogue(shop.items, map(_interaction, shop.events(events)), [], Counter())


def _interaction(event: Click) -> Interaction:
    return Interaction(
        user=event.user_id,
        item=event.item_id,
        time_ms=milliseconds(event.timestamp),
        kind="purchase" if isinstance(event, Purchase) else "click",
        basket=event.session_id,
        list_id=event.list_id,
    )


def _of_the_catalogue(
    items: list[Item], events: Iterable[Interaction], shown_lists: list[ShownList], left_out: Counter[str]
) -> EventLog:
    """Leave out what is about items that are not in the catalogue, and count it."""
    ids = {item.item_id for item in items}
    every = list(events)
    kept = [event for event in every if event.item in ids]
    lists = [shown._replace(items=tuple(item for item in shown.items if item in ids)) for shown in shown_lists]
    if len(kept) < len(every):
        left_out["events about items that are not in the catalogue"] = len(every) - len(kept)
    if missing := sum(len(shown.items) for shown in shown_lists) - sum(len(shown.items) for shown in lists):
        left_out["shown items that are not in the catalogue"] = missing
    if not kept:
        raise InputError(f"got no event about any of {len(ids):,} items; expected the same item_id in both")
    return EventLog(items, kept, lists, dict(left_out))
