"""A published list with other texts for its reasons. Everything else stays as it is, in whatever version wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from streams.contracts import Reason
from streams.rank.list_without import EditedList


class _Item(msgspec.Struct):
    item_id: str
    reason: Reason


class _List(msgspec.Struct):
    list_id: str
    as_of: int
    state_version: int
    items: list[_Item]
    generated_at: int = 0
    degraded: str | None = None
    reasons_version: int = 0


class Reworded(NamedTuple):
    """What became of a list: the list to be published, or None, and whether the texts belong to another list."""

    list_: EditedList | None
    superseded: bool = False


_decoder = msgspec.json.Decoder(_List)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def reworded(payload: bytes, list_id: str, reasons: Mapping[str, Reason], now_ms: int) -> Reworded:
    """Put reasons into a list.

    Parameters
    ----------
    payload : bytes
        The JSON of the newest list of its key.
    list_id : str
        The list that the reasons are for.
    reasons : mapping of str to Reason
        By item id. An item that is not in the list any more is left out.
    now_ms : int
        For `generated_at` (milliseconds), which grows in any case.

    Raises
    ------
    msgspec.DecodeError, UnicodeDecodeError
        It is no list.

    Examples
    --------
    >>> item = b'{"item_id":"a","reason":{"text":"New","evidence":[]}}'
    >>> list_ = b'{"list_id":"l","as_of":1,"state_version":2,"generated_at":3,"items":[%b]}' % item
    >>> reworded(list_, "l", {"a": Reason(text="You saw b", evidence=["b"])}, 9).list_.payload[-86:]
    b':[{"item_id":"a","reason":{"text":"You saw b","evidence":["b"]}}],"reasons_version":1}'
    """
    list_ = _decoder.decode(payload)
    if list_.list_id != list_id:
        return Reworded(None, superseded=True)
    changed = {
        item.item_id: reasons[item.item_id]
        for item in list_.items
        if item.item_id in reasons and item.reason.text != reasons[item.item_id].text
    }
    if not changed:
        return Reworded(None)
    fields = _fields.decode(payload)
    items = [
        {**raw, "reason": changed[item.item_id]} if item.item_id in changed else raw
        for item, raw in zip(list_.items, _items.decode(fields["items"]), strict=True)
    ]
    generated_at = max(now_ms, list_.generated_at + 1)
    more = {"items": items, "generated_at": generated_at, "reasons_version": list_.reasons_version + 1}
    item_ids = [item.item_id for item in list_.items]
    edited = msgspec.json.encode({**fields, **more})
    return Reworded(EditedList(edited, list_.as_of, list_.state_version, item_ids, list_.degraded))
