"""The key of a list: of its record in `recommendations` and of its value in Redis. Knows no setting."""

from __future__ import annotations

from collections.abc import Collection


def list_key(user_id: str, placement: str | None, placements: Collection[str]) -> str:
    """Return the key of a list: of its record in `recommendations`, and, after the key prefix, of its value in Redis.

    It is the user id, and for a placement `{user}:{placement}`. A user id that itself ends with a colon, or with a
    colon and a declared placement, gets one colon more, so no two lists share a key.

    Parameters
    ----------
    placements : collection of str
        All that are declared; `placement` is one of them, or None.

    >>> placements = ("cart", "home")
    >>> [list_key(user, None, placements) for user in ("a", "a:cart", "a:", "a:b")]
    ['a', 'a:cart:', 'a::', 'a:b']
    >>> list_key("a", "cart", placements), list_key("a:cart", None, ())
    ('a:cart', 'a:cart')
    """
    if placement is not None:
        return f"{user_id}:{placement}"
    endings = tuple(f":{name}" for name in (*placements, "")) if placements else ()
    return f"{user_id}:" if user_id.endswith(endings) else user_id


def parse_list_key(key: str, placements: Collection[str]) -> tuple[str, str | None]:
    """Return the user and the placement of a key; see `list_key`.

    >>> [parse_list_key(key, ("cart", "home")) for key in ("a", "a:cart", "a:cart:", "a:b")]
    [('a', None), ('a', 'cart'), ('a:cart', None), ('a:b', None)]
    """
    user_id, colon, ending = key.rpartition(":")
    if not colon or not placements or ending not in (*placements, ""):
        return key, None
    return user_id, ending or None
