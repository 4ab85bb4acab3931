"""What the users' words say: by patterns, or as a language model has read what the patterns do not understand.

Knows no user's state, and no model.
"""

from __future__ import annotations

from datetime import timezone
from typing import NamedTuple

from encoders.event_time import milliseconds
from ranker.wishes.grammar import Wish
from ranker.wishes.patterns import parse
from streams.contracts import Preference
from streams.settings import Settings

MAX_SOUGHT = 4
"""Things that a wish asks for which are searched; chosen by us."""


class ReadWish(NamedTuple):
    """What was understood of a message, or why nothing was.

    Attributes
    ----------
    wish : Wish or None
    answer : str
        For the user; empty if the wish was understood.
    parser : str
        One of `wish_metrics.PARSERS`.
    """

    wish: Wish | None
    answer: str = ""
    parser: str = "patterns"

    @property
    def sought(self) -> list[str]:
        """The words that the wish asks for: `only` and `more`."""
        clauses = self.wish.clauses if self.wish else ()
        wanted = [" ".join(one) for clause in clauses if clause.effect in ("only", "more") for one in clause.any_of]
        return list(dict.fromkeys(wanted))[:MAX_SOUGHT]


Said = tuple[str, int]
"""The text of a wish, and when it was said (milliseconds)."""


class WishReader:
    """Reads wishes.

    Parameters
    ----------
    settings : Settings
        Of the worker.

    Attributes
    ----------
    zone : tzinfo
        Says when a day ends.
    answers : dict of Said to Wish
        What a model read; None where its answer did not count.
    """

    def __init__(self, settings: Settings) -> None:
        self.zone = settings.zone or timezone.utc
        self.answers: dict[Said, Wish | None] = {}

    def read(self, message: Preference) -> ReadWish:
        """Read a wish by patterns, or as the model read it. A revocation says nothing."""
        if message.text is None:
            return ReadWish(None)
        said, parser = said_in(message), "patterns"
        found: Wish | str = parse(*said, self.zone)
        if isinstance(found, str) and (wish := self.answers.get(said)):
            found, parser = wish, "model"
        if isinstance(found, str):
            return ReadWish(None, found)
        ends = [found.expires_ms, None if message.expires_at is None else milliseconds(message.expires_at)]
        expires_ms = min((end for end in ends if end is not None), default=None)
        return ReadWish(Wish(found.clauses, expires_ms), parser=parser)


def said_in(message: Preference) -> Said:
    """Return what a message says, and when."""
    return message.text or "", milliseconds(message.timestamp)
