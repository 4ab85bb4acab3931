"""The users who were merged into a user: their ids, so that to forget one of them is to forget all.

The newest ids are under the key `j`. Full blocks of older ones are under keys `J`, so that a merge writes at most
`BLOCK` ids, however many users were merged into the same one. An id may be in it that the user's record does not know
yet: a worker died between the two writes, and gets the state once more. Knows no merge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from encoders.interest_record import StateUnreadable
from streams.state.staged_store import StagedStore

BLOCK = 128
"""Ids in a block, about 5 KB. Chosen by us: more than a person has browsers."""


class _Newest(msgspec.Struct, array_like=True, frozen=True):
    blocks: int
    ids: list[str]


_NONE = _Newest(0, [])
_newest_decoder = msgspec.msgpack.Decoder(_Newest)
_block_decoder = msgspec.msgpack.Decoder(list[str])


class Visitors:
    """The merged users of each user.

    Parameters
    ----------
    staged : StagedStore
        Holds the values of the users.
    """

    def __init__(self, staged: StagedStore) -> None:
        self._staged = staged

    def of(self, user_id: str) -> Iterator[str]:
        """Yield the ids of the users who were merged into this one, also by way of others, the newest first.

        Raises
        ------
        StateUnreadable
            Another version wrote them, or they are damaged.
        """
        newest = self._newest(user_id)
        yield from reversed(newest.ids)
        for block in reversed(range(newest.blocks)):
            value = self._staged.read(user_id, _block_key(user_id, block)) or msgspec.msgpack.encode([])
            try:
                yield from reversed(_block_decoder.decode(value))
            except msgspec.DecodeError as error:
                raise _unreadable(error) from error

    def has(self, user_id: str, visitor_id: str) -> bool:
        """Whether `visitor_id` was merged into the user."""
        return any(known == visitor_id for known in self.of(user_id))

    def add(self, user_id: str, visitor_ids: Collection[str]) -> None:
        """Add the ids that are not there."""
        known = set(self.of(user_id)) | {user_id}
        newest = self._newest(user_id)
        blocks, ids = newest.blocks, newest.ids + [id_ for id_ in dict.fromkeys(visitor_ids) if id_ not in known]
        while len(ids) > BLOCK:
            self._staged.change(user_id, _block_key(user_id, blocks), msgspec.msgpack.encode(ids[:BLOCK]))
            blocks, ids = blocks + 1, ids[BLOCK:]
        if (blocks, ids) != (newest.blocks, newest.ids):
            self._staged.change(user_id, _newest_key(user_id), msgspec.msgpack.encode(_Newest(blocks, ids)))

    def erase(self, user_id: str) -> None:
        """Forget all ids of the user."""
        newest = self._newest(user_id)
        if newest == _NONE:
            return
        for block in range(newest.blocks):
            self._staged.change(user_id, _block_key(user_id, block), None)
        self._staged.change(user_id, _newest_key(user_id), None)

    def _newest(self, user_id: str) -> _Newest:
        value = self._staged.read(user_id, _newest_key(user_id))
        try:
            return _NONE if value is None else _newest_decoder.decode(value)
        except msgspec.DecodeError as error:
            raise _unreadable(error) from error


def _newest_key(user_id: str) -> bytes:
    return b"j" + user_id.encode()


def _block_key(user_id: str, block: int) -> bytes:
    return b"J" + block.to_bytes(4) + user_id.encode()


def _unreadable(error: msgspec.DecodeError) -> StateUnreadable:
    return StateUnreadable(f"user's merges: got {error}, expected ids; restore the changelog topic")
