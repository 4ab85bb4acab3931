"""What workers send each other to merge a visitor into a user: a question, its answer, then the visitor's state.

Knows no store and no Kafka.
"""

from __future__ import annotations

import msgspec

from encoders.interest_record import StateUnreadable
from streams.state.kept_wishes import UserWishes


class UserState(msgspec.Struct, array_like=True, frozen=True):
    """All that a user's state consists of.

    Attributes
    ----------
    interest : bytes
        See `encoders.interest_record`.
    events : bytes
        The memory of accepted events: `event_memory.ENTRY`, in the order of time.
    horizon : int
        The memory's horizon, see `event_memory`.
    newest_ms : int
        Newest time (milliseconds) of all events that were accepted or repeated.
    context : dict of str to str
        The newest value of each key that rules read.
    shown : bytes
        The newest lists that the user was shown, see `encoders.events.shown_lists`.
    wishes : UserWishes or None
        None without any.
    """

    interest: bytes
    events: bytes
    horizon: int
    newest_ms: int
    context: dict[str, str] = {}
    shown: bytes = b""
    wishes: UserWishes | None = None


class MergeStep(msgspec.Struct, array_like=True, frozen=True):
    """A merge of one user into another."""

    timestamp_ms: int
    from_user_id: str
    into_user_id: str


class Question(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """Whether a merge closes no cycle. It goes from each user to the one into whom that user was merged.

    Attributes
    ----------
    owner : str
        The changelog of the workers that this is for: others have states of their own.
    merge : MergeStep
        The merge.
    user_id : str
        Who gets the question, or the answer.
    is_answered : bool
        This is the answer, of a user who was not merged: the merge closes no cycle.
    """

    owner: str
    merge: MergeStep
    user_id: str
    is_answered: bool = False


class Transfer(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """A visitor's state.

    Attributes
    ----------
    owner : str
        See `Question`.
    path : list of MergeStep
        The merge of the visitor, then those by which the state was sent on.
    visitors : list of str
        Users who were merged into the visitor.
    state : UserState or None
        None if only visitors are sent.
    """

    owner: str
    path: list[MergeStep]
    visitors: list[str]
    state: UserState | None = None

    @property
    def user_id(self) -> str:
        """The user who takes the state in."""
        return self.path[-1].into_user_id

    @property
    def visitor_id(self) -> str:
        """The user whose state it is."""
        return self.path[0].from_user_id


Sent = Question | Transfer
_decoder: msgspec.msgpack.Decoder[Sent] = msgspec.msgpack.Decoder(Sent)


def encode(sent: Sent) -> bytes:
    """Serialise a message."""
    return msgspec.msgpack.encode(sent)


def decode(value: bytes) -> Sent:
    """Read what `encode` wrote.

    Raises
    ------
    StateUnreadable
        Another version wrote it, or it is damaged.
    """
    try:
        return _decoder.decode(value)
    except msgspec.DecodeError as error:
        raise StateUnreadable(f"visitor's state: got {error}, expected a state; send the merge again") from error
