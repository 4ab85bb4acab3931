"""Pages of a list: a part of its items, and where the next part is, without an item that came before.

A list may be replaced between two pages. So the address of the next page names the items that earlier pages showed, in
four characters each, and the next page is of the list that is out by then, without them. The server remembers nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from streams.serve.problems import Problem

HASH_BYTES = 3
"""Of an item id. One of 1,000 items that a user has not seen is taken for a seen one with probability 6e-5."""
MAX_SEEN = 1_000
"""Items that an address names: 4,000 characters, which common proxies take. Chosen by us: the longest list."""


class Part(NamedTuple):
    """A part of a list.

    Attributes
    ----------
    content : bytes
        The list's JSON with these items alone; everything else stays byte for byte.
    seen : str
        Names the items of this page and of those before, for the next one. Empty if no item is left.
    """

    content: bytes
    seen: str


def part_of(stored: bytes, limit: int | None, offset: int, seen: str = "") -> Part:
    """Return a part of a list.

    Parameters
    ----------
    stored : bytes
        The list's JSON.
    limit : int, optional
        The most items. None: all.
    offset : int
        How many items to leave out at the top. They count as seen.
    seen : str
        Of the page before; its items are left out first.

    Raises
    ------
    Problem
        400: `seen` is not of a page.

    Examples
    --------
    >>> part_of(b'{"list_id": "l", "items": [{"item_id":"a"},{"item_id":"b"},{"item_id":"c"}]}', 1, 1).content
    b'{"list_id":"l","items":[{"item_id":"b"}]}'
    """
    fields = msgspec.json.decode(stored, type=dict[str, msgspec.Raw])
    items = msgspec.json.decode(fields.get("items", b"[]"), type=list[msgspec.Raw])
    before = _hashes(seen)
    known = set(before)
    left = [item for item in items if _hash(item) not in known] if known else items
    part: Any = left[offset:] if limit is None else left[offset : offset + limit]
    fields["items"] = msgspec.Raw(msgspec.json.encode(part))
    has_more = limit is not None and offset + limit < len(left)
    named = [*before, *map(_hash, left[: offset + len(part)])] if has_more else []
    return Part(msgspec.json.encode(fields), _token(named))


def _hash(item: msgspec.Raw) -> bytes:
    item_id = msgspec.json.decode(item, type=_Shown).item_id
    return hashlib.blake2b(item_id.encode(), digest_size=HASH_BYTES).digest()


class _Shown(msgspec.Struct):
    item_id: str = ""


def _token(hashes: Sequence[bytes]) -> str:
    return base64.urlsafe_b64encode(b"".join(hashes[-MAX_SEEN:])).decode()


def _hashes(token: str) -> list[bytes]:
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raw = b"?"
    if len(raw) % HASH_BYTES or len(raw) > MAX_SEEN * HASH_BYTES:
        raise Problem(
            400, "invalid_query", f"seen: got {token[:40]!r}, expected the value in the Link header of a page before"
        )
    return [raw[begin : begin + HASH_BYTES] for begin in range(0, len(raw), HASH_BYTES)]
