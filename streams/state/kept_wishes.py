"""The wishes of users: what is kept of each, and which hold now. Under the key `w`, beside the user's record.

What is kept is a function of the set of messages, as long as no limit drops a wish: the order of arrival, and whether
a merged visitor or the user said it, make no difference. Knows no parser.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import msgspec

from encoders.events.searches import Searched
from encoders.interest_record import StateUnreadable
from ranker.wishes.grammar import Wish
from streams.state import wish_metrics
from streams.state.staged_store import StagedStore

MAX_WISHES = 16
"""Of a user, the newest; chosen by us: nobody remembers more of them."""
MAX_TEXT = 200
"""Characters of the user's words that are kept."""
ANSWER_MS = 86_400_000
"""How long the answer to a wish that was not understood stands in lists; chosen by us: until the user has seen it."""


class KeptWish(msgspec.Struct, array_like=True, frozen=True):
    """A wish as it is kept.

    Attributes
    ----------
    made_ms : int
        When the user said it (milliseconds since the epoch).
    key : int
        A hash of the message's id and of the user whom it names.
    wish_id : str
        The id of the message.
    text : str
        The first `MAX_TEXT` characters of what the user wrote.
    wish : Wish or None
        What was understood; None for nothing.
    answer : str
        Why nothing was understood.
    sought : tuple of Searched
        What the wish asks for, as searches: candidates are looked for near them.
    """

    made_ms: int
    key: int
    wish_id: str
    text: str
    wish: Wish | None
    answer: str = ""
    sought: tuple[Searched, ...] = ()

    @property
    def expires_ms(self) -> int | None:
        """Until when it holds; None: until it is revoked."""
        return self.made_ms + ANSWER_MS if self.wish is None else self.wish.expires_ms

    def holds(self, now_ms: int) -> bool:
        """Whether it has not expired."""
        return self.expires_ms is None or self.expires_ms > now_ms


class UserWishes(msgspec.Struct, array_like=True, frozen=True):
    """All wishes of a user, and the ids of the revoked ones with the times of their revocations."""

    kept: tuple[KeptWish, ...] = ()
    revoked: dict[str, int] = {}


NONE = UserWishes()
_decoder = msgspec.msgpack.Decoder(UserWishes)


def joined(*wishes: UserWishes) -> UserWishes:
    """Return the wishes of several users who are one person, or of one user with newer ones."""
    revoked: dict[str, int] = {}
    for one in wishes:
        for wish_id, time_ms in one.revoked.items():
            revoked[wish_id] = max(time_ms, revoked.get(wish_id, time_ms))
    by_key = {kept.key: kept for one in wishes for kept in one.kept if kept.wish_id not in revoked}
    newest_ms = max((kept.made_ms for kept in by_key.values()), default=0)
    ordered = sorted(by_key.values(), key=lambda kept: (kept.holds(newest_ms), kept.made_ms, kept.key))
    dropped = ordered[:-MAX_WISHES]
    wish_metrics.dropped.inc(sum(kept.holds(newest_ms) for kept in dropped))
    marks = sorted(revoked.items(), key=lambda pair: (pair[1], pair[0]))[-MAX_WISHES:]
    return UserWishes(tuple(sorted(ordered[-MAX_WISHES:], key=lambda kept: (kept.made_ms, kept.key))), dict(marks))


def decode_wishes(value: bytes | None) -> UserWishes:
    """Read what `KeptWishes` wrote.

    Raises
    ------
    StateUnreadable
        Another version wrote it, or it is damaged.
    """
    if value is None:
        return NONE
    try:
        return _decoder.decode(value)
    except msgspec.DecodeError as error:
        raise StateUnreadable(
            f"user's wishes: got {error}, expected wishes; restore the changelog topic, or upgrade this worker"
        ) from error


class KeptWishes:
    """The wishes of each user.

    Parameters
    ----------
    staged : StagedStore
        Holds the values of the users.
    """

    def __init__(self, staged: StagedStore) -> None:
        self._staged = staged

    def of(self, user_id: str) -> UserWishes:
        """Give all wishes of a user, also expired ones; raises `StateUnreadable`."""
        return decode_wishes(self._staged.read(user_id, wishes_key(user_id)))

    def holding(self, user_id: str, now_ms: int | None = None) -> list[KeptWish]:
        """Give the wishes that hold at a time; by default now, by the clock of this machine. The oldest comes first."""
        now_ms = round(time.time() * 1000) if now_ms is None else now_ms
        return [kept for kept in self.of(user_id).kept if kept.holds(now_ms)]

    def add(self, user_id: str, wishes: UserWishes) -> None:
        """Add wishes and revocations to those of a user."""
        value = msgspec.msgpack.encode(joined(self.of(user_id), wishes))
        self._staged.change(user_id, wishes_key(user_id), value)

    def erase(self, user_id: str) -> None:
        """Forget all wishes of the user."""
        if self._staged.read(user_id, wishes_key(user_id)) is not None:
            self._staged.change(user_id, wishes_key(user_id), None)


def sought_by(wishes: Iterable[KeptWish]) -> Sequence[Searched]:
    """Return what these wishes ask for."""
    return [search for kept in wishes for search in kept.sought]


def wishes_key(user_id: str) -> bytes:
    """Return the key of a user's wishes."""
    return b"w" + user_id.encode()


def is_wishes(key: bytes) -> bool:
    """Return whether this is the key of a user's wishes."""
    return key[:1] == b"w"
