"""What a decoder made of users' contexts, kept, so that after a click only the new tokens are computed.

A decoder's keys and values of a token depend on the tokens before it alone, so any context that begins with the same
tokens can use them. Found by a chain of hashes over blocks of tokens, as vLLM's prefix caching finds them, then
compared token by token. Knows no model; called by `packed_decoder`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranker.scorers.packed.layout import KeysValues

BLOCK = 32
"""Tokens per hash: a common beginning shorter than that is not found."""
SAME_USER = 0.5
"""Share of a kept context from which on one that begins with it takes its place: it is the same user's, grown."""


@dataclass(frozen=True, eq=False)
class Kept:
    """One context: its token ids, by layer their keys and values, and whose it is."""

    ids: NDArray[np.int64]
    layers: list[KeysValues]
    user: str

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for pair in self.layers for tensor in pair)


class ContextCache:
    """Contexts within `max_bytes`; the least recently used go first.

    Attributes
    ----------
    bytes : held now.
    """

    def __init__(self, max_bytes: int) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._kept: OrderedDict[int, Kept] = OrderedDict()  # by the hash of its last whole block
        self._holder: dict[int, int] = {}  # hash of any block -> key of a context that has it

    def __len__(self) -> int:
        return len(self._kept)

    def longest(self, ids: Sequence[int]) -> tuple[int, list[KeysValues]]:
        """The most tokens that some kept context has in common with the beginning of `ids`, and what is kept of them.

        Returns
        -------
        tokens : 0 if there is none.
        layers : their keys and values; empty if there is none.
        """
        found = self._find(ids)
        if found is None:
            return 0, []
        key, tokens = found
        self._kept.move_to_end(key)
        layers = [(keys[:, :, :tokens], values[:, :, :tokens]) for keys, values in self._kept[key].layers]
        return tokens, layers

    def put(self, ids: Sequence[int], layers: list[KeysValues], user: str = "") -> None:
        """Keep a context, in the place of the one that it continues."""
        chain = list(_chain(ids))
        if not chain:
            return
        found = self._find(ids)
        if found is not None and found[1] >= SAME_USER * len(self._kept[found[0]].ids):
            self._drop(found[0])
        if chain[-1] in self._kept:
            self._drop(chain[-1])
        kept = Kept(np.array(ids, np.int64), layers, user)
        self._kept[chain[-1]] = kept
        self._holder.update(dict.fromkeys(chain, chain[-1]))
        self.bytes += kept.bytes
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def forget(self, users: Collection[str] | None) -> None:
        """Drop the contexts of these users; all of them, for None."""
        for key in [key for key, kept in self._kept.items() if users is None or kept.user in users]:
            self._drop(key)

    def _find(self, ids: Sequence[int]) -> tuple[int, int] | None:
        for block in reversed(list(_chain(ids))):
            key = self._holder.get(block)
            if key is not None:
                theirs = self._kept[key].ids
                common = min(len(theirs), len(ids))
                differ = np.flatnonzero(theirs[:common] != np.array(ids[:common], np.int64))
                return key, int(differ[0]) if len(differ) else common
        return None

    def _drop(self, key: int) -> None:
        dropped = self._kept.pop(key)
        self.bytes -= dropped.bytes
        for block in _chain(dropped.ids.tolist()):
            if self._holder.get(block) == key:
                del self._holder[block]


def _chain(ids: Sequence[int]) -> Iterator[int]:
    """A hash for each whole block of tokens and all before it."""
    chained = 0
    for start in range(0, len(ids) - BLOCK + 1, BLOCK):
        chained = hash((chained, *ids[start : start + BLOCK]))
        yield chained
