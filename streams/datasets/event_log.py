"""Event logs for training and evaluation: read from files, or from a public data set.

Every message is validated as in a worker. A message that a worker would reject is counted by cause and left out, and
so is an event about an item that the catalogue never had. Knows no protocol of evaluation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.events.types import DEFAULT_WEIGHTS
from encoders.text.sentiment import Sentiment
from ranker.evaluation.impressions import ShownList
from ranker.evaluation.interactions import Interaction, Interactions
from ranker.progress import Progress
from streams.contracts import Click, Impression, Item, Preference, Search, Triple
from streams.datasets import seller_shop
from streams.datasets.audio_shop import audio_shop
from streams.datasets.file_messages import FileMessages
from streams.datasets.knowledge_shop import knowledge_shop
from streams.datasets.log_builder import LogBuilder, interaction
from streams.datasets.messages import InputError
from streams.datasets.noted_signs import note_shown, note_wish
from streams.datasets.online_retail import online_retail
from streams.datasets.search_shop import search_shop
from streams.datasets.shop import SyntheticShop
from streams.receive.embeddings import EmbeddingNames
from streams.receive.message import BadMessage, Tombstone
from streams.receive.user_events import USUAL, Dwell, event_of

GENERATED = ("generated-shop", "search-shop", "wish-shop", "knowledge-shop", "seller-shop", "audio-shop")
DATASETS = ("online-retail", *GENERATED)
SYNTHETIC_ITEMS, SYNTHETIC_SHOPPERS, SYNTHETIC_EVENTS = 3_000, 600, 12_000
"""Of the synthetic shop: some minutes of training."""
PROGRESS_MESSAGES = 5_000
NO_EMBEDDINGS: Mapping[str, int | None] = {}


@dataclass(frozen=True)
class EventLog:
    """A catalogue, and the events about its items.

    Attributes
    ----------
    items : list of Item
        Each id once, in its latest version.
    events : sequence of Interaction
        In any order.
    shown_lists : list of ShownList
    left_out : dict of str to int
        The number of messages by the reason that leaves them out.
    triples : sequence of Triple
        What the knowledge graph has from the beginning on.
    """

    items: list[Item]
    events: Sequence[Interaction]
    shown_lists: list[ShownList]
    left_out: dict[str, int]
    triples: Sequence[Triple] = ()


def read_files(
    files: FileMessages,
    progress: Progress | None = None,
    weights: Mapping[str, float] = DEFAULT_WEIGHTS,
    sentiment: Sentiment | None = None,
    embeddings: Mapping[str, int | None] = NO_EMBEDDINGS,
    dwell: Dwell = USUAL,
) -> EventLog:
    """Read the items and the events of files.

    An event that comes again (the same topic, `event_id`, user and item) counts once, a purchase that was returned not
    at all. Memory: about 60 bytes an event, and the ids of users, items and baskets, each once.

    Parameters
    ----------
    files : FileMessages
        With items, and with clicks or purchases.
    progress : Progress, optional
        In bytes of the files.
    weights : mapping of str to float
        Of the types of events. An event that weighs nothing or less is a sign, as a search is, and no case.
    sentiment : callable, optional
        Judges the texts that users write about items.
    embeddings, dwell
        Which vectors of items are kept, see `EmbeddingNames`, and what the duration of a look says.

    Raises
    ------
    InputError
        There are no items, or neither clicks nor purchases, or no event about an item.
    """
    _check_topics(files.topics)
    catalogue: dict[str, Item] = {}
    builder, kept, knowledge = LogBuilder(weights, sentiment, dwell), EmbeddingNames(embeddings), list[Triple]()
    shown_lists = list[ShownList]()
    for number, (topic, message, _) in enumerate(files.checked()):
        if progress and number % PROGRESS_MESSAGES == 0:
            progress(*files.progress(number))
        if isinstance(message, (Item, Tombstone)):
            _put(catalogue, message, kept, files)
        elif isinstance(message, Impression):
            note_shown(message, shown_lists, builder.signs)
        elif isinstance(message, Triple):
            knowledge.append(message)
        elif isinstance(message, Preference):
            note_wish(message, builder.signs, files)
        elif isinstance(message, (Click, Search)):
            builder.take(topic, message)
    events, left_out = builder.log()
    left_out += files.account.left_out
    return _of_the_catalogue(list(catalogue.values()), events, shown_lists, left_out, knowledge)


def _check_topics(topics: Iterable[str]) -> None:
    if not ({"items"} & set(topics) and {"clicks", "purchases", "events"} & set(topics)):
        raise InputError(f"got {', '.join(topics)}, expected --items, and --clicks, --purchases or --events")


def _put(catalogue: dict[str, Item], item: Item | Tombstone, embeddings: EmbeddingNames, files: FileMessages) -> None:
    """Put an item into the catalogue, drop one that was deleted, or account for one whose vectors are wrong."""
    if isinstance(item, Tombstone):
        catalogue.pop(item.key, None)
        return
    try:
        catalogue[item.item_id] = embeddings.kept(item)
    except BadMessage as error:
        files.account.leave_out(f"items: {error.cause}", str(error))


def read_dataset(
    name: str, path: Path, progress: Progress | None = None, sentiment: Sentiment | None = None
) -> EventLog:
    """Read a data set.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    path : Path
        Of its file; for a generated shop, the seed.
    progress : Progress, optional
        In bytes of the file.
    sentiment : callable, optional
        Judges the texts that users write about items, where there are any.

    Raises
    ------
    InputError
        There is no such data set, or the file holds another one.
    """
    if name not in DATASETS:
        raise InputError(f"--dataset: got {name!r}, expected one of {', '.join(DATASETS)}")
    if name in GENERATED:
        if not str(path).isdecimal():
            raise InputError(f"--dataset {name}: got {str(path)!r}, expected a seed, such as 7")
        return _generated(name, int(str(path)), sentiment)
    retail = online_retail(path, progress)
    events = Interactions.of(map(_of_a_dataset, retail.events))
    return _of_the_catalogue(retail.items, events, [], Counter())


def synthetic(
    seed: int,
    events: int = SYNTHETIC_EVENTS,
    with_sellers: bool = False,
    size: int = SYNTHETIC_ITEMS,
    shoppers: int = SYNTHETIC_SHOPPERS,
) -> EventLog:
    """The first events of the synthetic shop of a seed and size; with sellers, those that the shop let happen."""
    shop = SyntheticShop(seed, size, shoppers)
    items, happened = shop.items, shop.events(events)
    if with_sellers:
        items = seller_shop.sold(items, seed)
        happened = seller_shop.seen(items, happened, seed)
    return _of_the_catalogue(items, Interactions.of(map(_of_a_dataset, happened)), [], Counter())


def _generated(name: str, seed: int, sentiment: Sentiment | None) -> EventLog:
    if name == "generated-shop":
        return synthetic(seed)
    if name == "audio-shop":
        return of_recordings(seed, sentiment)
    if name == "seller-shop":
        return synthetic(seed, with_sellers=True)
    return of_films(seed) if name == "knowledge-shop" else EventLog(*search_shop(seed, name == "wish-shop"), [], {})


def of_films(seed: int) -> EventLog:
    """The synthetic shop of a seed in which only the knowledge graph says what a user likes."""
    items, events, triples = knowledge_shop(seed)
    return EventLog(items, Interactions.of(events), [], {}, triples)


def of_recordings(seed: int, sentiment: Sentiment | None = None) -> EventLog:
    """The synthetic shop of a seed in which a number, the time of day and reviews say what a user likes."""
    items, messages = audio_shop(seed)
    builder = LogBuilder(sentiment=sentiment)
    for topic, message in messages:
        builder.take(topic, message)
    events, left_out = builder.log()
    return _of_the_catalogue(items, events, [], left_out)


def _of_a_dataset(event: Click) -> Interaction:
    return interaction(event, event_of(event, DEFAULT_WEIGHTS))


def _shortened(shown: ShownList, ids: Collection[str]) -> ShownList:
    """The list without unknown items. The others have other places then, so no propensities."""
    return shown._replace(items=tuple(filter(ids.__contains__, shown.items)), propensities=())


def _of_the_catalogue(
    items: list[Item],
    events: Interactions,
    shown_lists: list[ShownList],
    left_out: Counter[str],
    triples: Sequence[Triple] = (),
) -> EventLog:
    """Leave out what is about items that are not in the catalogue, and count it."""
    ids = {item.item_id for item in items}
    known = np.array([item in ids for item in events.names.items], bool)
    kept = events if known.all() else events[known[events.item]]
    lists = [shown if ids.issuperset(shown.items) else _shortened(shown, ids) for shown in shown_lists]
    if len(kept) < len(events):
        left_out["events about items that are not in the catalogue"] = len(events) - len(kept)
    if missing := sum(len(shown.items) for shown in shown_lists) - sum(len(shown.items) for shown in lists):
        left_out["shown items that are not in the catalogue"] = missing
    if not len(kept):
        raise InputError(f"got no event about any of {len(ids):,} items; expected the same item_id in both")
    return EventLog(items, kept, lists, dict(left_out), triples)
