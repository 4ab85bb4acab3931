"""`afterclick recommend`: read one list from Redis and draw it."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from streams.contracts import COLD_START_USER
from streams.publish.list_cache import ListCache
from streams.receive.pseudonym import pseudonym
from streams.settings import Settings


async def read(settings: Settings, user_id: str) -> tuple[bytes | None, bool]:
    """Read the list of a user, or the cold-start list if there is none.

    Returns
    -------
    bytes or None
        The list, as JSON. None: there is no cold-start list either.
    bool
        Whether it is the user's own list.

    Raises
    ------
    streams.publish.redis_refusal.CacheUnavailable
        Redis does not answer, or refuses.
    """
    own = await ListCache.read_once(settings, pseudonym(user_id, settings.pseudonym_key))
    if own is not None:
        return own, True
    return await ListCache.read_once(settings, COLD_START_USER), False


def render(stored: dict[str, Any]) -> Table:
    """Draw a list, with the source and the reason of each item."""
    table = Table(title=f"{stored['user_id']}: {stored['state_version']} events, ranked by {stored['model']}")
    for heading in ("rank", "item", "score", "from", "reason"):
        table.add_column(heading, justify="right" if heading in ("rank", "score") else "left")
    for item in stored["items"]:
        score = "" if item["score"] is None else f"{item['score']:.3f}"
        table.add_row(str(item["rank"]), item["item_id"], score, ", ".join(item["sources"]), item["reason"]["text"])
    if stored["degraded"]:
        table.caption = f"made without the model: {stored['degraded']}"
    return table
