"""The lists that impressions showed a user: what was shown again and again without a click, and what was passed over.

The newest lists that fit are a function of the set of impressions: neither their order nor a repeat changes anything.
Knows no catalogue.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from encoders.events.entries import Entries, item_key

MAX_BYTES = 320
"""Of all lists; chosen by us, of the 4 KB of a record: five lists of 20 items of which half come again."""
MAX_LISTS = 12
MAX_ITEMS = 64
"""Of a list, its first; chosen by us: what a user has seen of a longer one is not known."""
HASH_BYTES = 3
HASH_MASK = 0xFFFFFF
"""An item is known by 3 bytes of its key: one of 500 candidates is mistaken for one of 60 items in 2 of 1,000 lists."""
HEADER_BYTES = 4 + HASH_BYTES + 1
ANSWER_MS = 30 * 60_000
"""An event answers a list that was shown at most so long before; as in the protocol `impressions`."""


class SeenList(NamedTuple):
    """One impression.

    Attributes
    ----------
    second : int
        Of its time.
    id : int
        3 bytes of the hash of its identity.
    items : tuple of int
        The hashes of its items, rank 1 first.
    """

    second: int
    id: int
    items: tuple[int, ...]


class Choices(NamedTuple):
    """What a user did with a list.

    Attributes
    ----------
    chosen : dict of int to int
        By rank, from 0: index in the history of the first event that chose the item.
    skipped : int
        The items above the lowest chosen one that were not chosen; 0 where none was chosen.
    """

    chosen: dict[int, int]
    skipped: int


def seen_list(user_id: str, event_id: str, item_ids: Iterable[str], time_ms: int) -> SeenList:
    """Return an impression in this form. It names the user because the ids of two users may be the same."""
    identity = hashlib.blake2b(f"{len(user_id)} {user_id} {event_id}".encode(), digest_size=HASH_BYTES).digest()
    items = list(dict.fromkeys(map(hash_of, item_ids)))[:MAX_ITEMS]
    return SeenList(max(0, time_ms // 1000), int.from_bytes(identity, "little"), tuple(items))


def hash_of(item_id: str) -> int:
    """Return the hash of an item's id."""
    return item_key(item_id) & HASH_MASK


def newest(lists: Iterable[SeenList]) -> list[SeenList]:
    """Return the newest lists that fit into `MAX_BYTES`, oldest first, each once with its latest time."""
    latest: dict[int, SeenList] = {}
    for one in sorted(lists):
        latest[one.id] = one
    kept: list[SeenList] = []
    items, size = set[int](), 1
    for one in sorted(latest.values(), reverse=True)[:MAX_LISTS]:
        items.update(one.items)
        size += HEADER_BYTES + len(one.items)
        if size + HASH_BYTES * len(items) > MAX_BYTES:
            break
        kept.append(one)
    return kept[::-1]


def written(lists: Sequence[SeenList]) -> bytes:
    """Return lists that `newest` gave as bytes: each item once, then of each list its items by number."""
    if not lists:
        return b""
    number_of = {item: number for number, item in enumerate(dict.fromkeys(i for one in lists for i in one.items))}
    parts = [bytes([len(number_of)]), *(item.to_bytes(HASH_BYTES, "little") for item in number_of)]
    for one in lists:
        header = one.second.to_bytes(4, "little") + one.id.to_bytes(HASH_BYTES, "little") + bytes([len(one.items)])
        parts += [header, bytes(number_of[item] for item in one.items)]
    return b"".join(parts)


def read(data: bytes) -> list[SeenList]:
    """Return the lists, oldest first.

    Raises
    ------
    ValueError
        These are no lists.
    """
    if not data:
        return []
    begin = 1 + HASH_BYTES * data[0]
    items = [int.from_bytes(data[at : at + HASH_BYTES], "little") for at in range(1, begin, HASH_BYTES)]
    lists = []
    try:
        while begin < len(data):
            end = begin + HEADER_BYTES + data[begin + HEADER_BYTES - 1]
            id_ = int.from_bytes(data[begin + 4 : begin + 4 + HASH_BYTES], "little")
            shown = tuple(items[number] for number in data[begin + HEADER_BYTES : end])
            lists.append(SeenList(int.from_bytes(data[begin : begin + 4], "little"), id_, shown))
            begin = end
    except IndexError:
        raise ValueError("shown lists that are cut off") from None
    return lists


def joined(one: bytes, other: bytes) -> bytes:
    """Return the lists of both."""
    if not one or not other or one == other:
        return one or other
    return written(newest([*read(one), *read(other)]))


def of_the_visit(lists: Sequence[SeenList], time_ms: int, gap_ms: float) -> frozenset[int]:
    """Return the hashes of what was shown in the last visit, if a time (milliseconds) belongs to it.

    Impressions, and the time, that are at most `gap_ms` apart are of one visit.

    >>> lists = [seen_list("u", id_, [id_], int(id_) * 1000) for id_ in ("0", "9", "12")]
    >>> [len(of_the_visit(lists, 14_000, gap)) for gap in (1_000, 3_000, 9_000)]
    [0, 2, 3]
    """
    hashes, until_ms = set[int](), float(time_ms)
    for one in reversed(lists):
        if not gap_ms or one.second * 1000 < until_ms - gap_ms:
            break
        until_ms = one.second * 1000
        hashes.update(one.items)
    return frozenset(hashes)


class Acts(NamedTuple):
    """A user's newest events, oldest first, in lists: each is looked at several times.

    Attributes
    ----------
    times_ms, items : list of int
        The time of each, and the hash of its item.
    chooses : list of bool
        Whether it chooses the item.
    """

    times_ms: list[int]
    items: list[int]
    chooses: list[bool]

    @staticmethod
    def of(events: Entries, chooses: Sequence[bool]) -> Acts:
        """Bring events (n,) `encoders.events.entries.ENTRY` into this form."""
        return Acts(events["time_ms"].tolist(), (events["item"] & HASH_MASK).tolist(), list(chooses))


def unclicked(lists: Sequence[SeenList], acts: Acts, as_of_ms: int, is_complete: bool) -> dict[int, int]:
    """Return how often each item was shown since the user did anything with it, by its hash.

    The more often an item was shown, the less it is looked at: fatigue (Ma, Liu and Shen, "User fatigue in online news
    recommendation", WWW 2016).

    A list that can still be answered does not count: else a head would learn from logs that users click what is on the
    page in front of them.

    Parameters
    ----------
    lists : sequence of SeenList
    acts : Acts
    as_of_ms : int
        The time of the newest event.
    is_complete : bool
        Whether the user has no older events. If there are, lists from before these events tell nothing: a click on one
        of their items may be among the older events.
    """
    newest_ms = dict(zip(acts.items, acts.times_ms, strict=True))  # the last of an item wins
    since_ms = -1 if is_complete or not acts.times_ms else acts.times_ms[0]
    counts: Counter[int] = Counter()
    for one in lists:
        shown_ms = one.second * 1000
        if since_ms < shown_ms <= as_of_ms - ANSWER_MS:
            counts.update(item for item in one.items if newest_ms.get(item, -1) < shown_ms)
    return dict(counts)


def choices(shown: SeenList, acts: Acts) -> Choices:
    """Return what the user did with a list.

    Users read a list from its top, so an item above the lowest one that they chose was seen and passed over: "click >
    skip above" of Joachims et al., "Accurately interpreting clickthrough data as implicit feedback", SIGIR 2005.
    """
    begin = bisect_left(acts.times_ms, shown.second * 1000)
    end = bisect_left(acts.times_ms, shown.second * 1000 + ANSWER_MS)
    first: dict[int, int] = {}
    for index in range(begin, end):
        if acts.chooses[index]:
            first.setdefault(acts.items[index], index)
    ranks = {rank: first[item] for rank, item in enumerate(shown.items) if item in first} if first else {}
    return Choices(ranks, max(ranks) + 1 - len(ranks) if ranks else 0)
