"""What else the users of a log did, beside the events that a protocol asks for. Knows no log."""

from __future__ import annotations

from typing import NamedTuple

from encoders.events.entries import Event
from encoders.events.shown_lists import SeenList


class SaidWish(NamedTuple):
    """What a user said that lists shall be like, or which wish the user took back.

    Attributes
    ----------
    wish_id : str
    text : str or None
        The wish in the user's words; None where one is taken back.
    expires_ms : int or None
        When it ends, where the message says so (milliseconds since the epoch).
    revokes : str or None
        The id of the wish that is taken back.
    """

    wish_id: str
    text: str | None
    expires_ms: int | None = None
    revokes: str | None = None


class Sign(NamedTuple):
    """What else a user did: an event that says that an item is not wanted, a search, a wish; or a list that was shown.

    It is no case and no target.

    Attributes
    ----------
    time_ms : int
    user : str
    event : Event, optional
    shown : SeenList, optional
    wish : SaidWish, optional
    """

    time_ms: int
    user: str
    event: Event | None = None
    shown: SeenList | None = None
    wish: SaidWish | None = None

    @property
    def order(self) -> tuple[int, str, int]:
        """By what signs are sorted."""
        return self.time_ms, self.user, self.event.item if self.event else self.shown.id if self.shown else 0
