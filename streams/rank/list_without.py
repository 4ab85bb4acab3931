"""A published list without some of its items. Everything else stays as it is, in whatever version wrote it.

A list with the fields of this version is decoded into structs that keep all but a few fields as JSON: a third of the
time that mappings take, which any other list needs.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from streams.contracts import Recommendations, RecommendedItem


class _Item(msgspec.Struct):
    item_id: str


class _List(msgspec.Struct):
    items: list[_Item]
    degraded: str | None = None


class _VersionedList(_List, kw_only=True):
    as_of: int
    state_version: int
    generated_at: int = 0


class EditedList(NamedTuple):
    """A list to be published again.

    Attributes
    ----------
    payload : bytes
        The list's JSON: the same list, published later.
    as_of, state_version : int
        The list's version, which is that of the list before.
    item_ids : list of str
        The items that are left.
    degraded : str, optional
        The list's field; `no-candidates` if no item is left.
    """

    payload: bytes
    as_of: int
    state_version: int
    item_ids: list[str]
    degraded: str | None


def _struct(contract: type[msgspec.Struct], **decoded: Any) -> Any:
    """Make a mutable struct of a contract's fields, which keeps as JSON all that is not decoded."""
    names = contract.__struct_encode_fields__
    fields = [(name, decoded[name]) if name in decoded else (name, Raw, UNSET) for name in names]
    return msgspec.defstruct(f"_{contract.__name__}", fields, kw_only=True, forbid_unknown_fields=True, gc=False)


_ThisItem = _struct(RecommendedItem, item_id=str, rank=int)
_ThisList = _struct(
    Recommendations,
    as_of=int,
    generated_at=int,
    state_version=int,
    degraded=str | None,
    items=list[_ThisItem],  # type: ignore[valid-type]
)
_this_version = msgspec.json.Decoder(_ThisList)
_shown = msgspec.json.Decoder(_List)
_versioned = msgspec.json.Decoder(_VersionedList)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def shown(payload: bytes) -> tuple[list[str], str | None]:
    """Return which items a list shows, and why it is degraded.

    Raises
    ------
    msgspec.DecodeError, UnicodeDecodeError
        It is no list.
    """
    list_ = _shown.decode(payload)
    return [item.item_id for item in list_.items], list_.degraded


def without(payload: bytes, gone: Set[str], now_ms: int) -> EditedList | None:
    """Leave items out of a list. The others keep their order, are numbered anew, and lose their propensities.

    Parameters
    ----------
    payload : bytes
        The list's JSON.
    gone : set of str
        Ids of the items.
    now_ms : int
        For `generated_at` (milliseconds), which grows in any case.

    Returns
    -------
    EditedList, optional
        None if the list shows none of the items.

    Raises
    ------
    msgspec.DecodeError, UnicodeDecodeError
        It is no list.

    Examples
    --------
    >>> items = b'[{"item_id":"a","rank":1},{"item_id":"b","rank":2}]'
    >>> list_ = b'{"as_of":1,"state_version":2,"generated_at":3,"items":%b}' % items
    >>> without(list_, {"a"}, 9).payload
    b'{"as_of":1,"state_version":2,"generated_at":9,"items":[{"item_id":"b","rank":1}]}'
    """
    try:
        list_ = _this_version.decode(payload)
    except msgspec.ValidationError:
        return without_of_any_version(payload, gone, now_ms)
    left = [item for item in list_.items if item.item_id not in gone]
    if len(left) == len(list_.items):
        return None
    for rank, item in enumerate(left, 1):
        item.rank, item.propensity = rank, UNSET  # with which probability this rank shows it, nobody has computed
    list_.items, list_.generated_at = left, max(now_ms, list_.generated_at + 1)
    list_.degraded = list_.degraded if left else "no-candidates"
    item_ids = [item.item_id for item in left]
    return EditedList(msgspec.json.encode(list_), list_.as_of, list_.state_version, item_ids, list_.degraded)


def without_of_any_version(payload: bytes, gone: Set[str], now_ms: int) -> EditedList | None:
    """Do what `without` does, with lists that have other fields than those of this version, too."""
    list_ = _versioned.decode(payload)
    left = [index for index, item in enumerate(list_.items) if item.item_id not in gone]
    if len(left) == len(list_.items):
        return None
    fields = _fields.decode(payload)
    items = _items.decode(fields["items"])
    degraded = list_.degraded if left else "no-candidates"
    changed: dict[str, Any] = {
        "items": [_at_rank(items[index], rank) for rank, index in enumerate(left, 1)],
        "generated_at": max(now_ms, list_.generated_at + 1),
    }
    if degraded != list_.degraded:
        changed["degraded"] = degraded
    item_ids = [list_.items[index].item_id for index in left]
    return EditedList(msgspec.json.encode(fields | changed), list_.as_of, list_.state_version, item_ids, degraded)


def _at_rank(item: dict[str, Any], rank: int) -> dict[str, Any]:
    """The item at another rank. With which probability that rank shows it, nobody has computed."""
    item.pop("propensity", None)
    return item | {"rank": rank}
