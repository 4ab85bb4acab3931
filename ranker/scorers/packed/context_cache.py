"""Keys and values that a decoder computed for users' contexts, so that after a click only the new tokens are computed.

A decoder's keys and values of a token depend only on that token and the tokens before it, so every context that begins
with the same tokens can use them. A common beginning is found by a chain of hashes over blocks of tokens, as in vLLM's
prefix caching, and then compared token by token. Knows no model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from ranker.scorers.packed.layout import KeysValues

BLOCK = 32
"""Tokens per hash: a shorter common beginning is not found."""
SAME_USER = 0.5
"""A context replaces a cached one if it begins with this share of it: it is the same user's context, grown."""


@dataclass(frozen=True, eq=False)
class CachedContext:
    """The token ids of one context, and their keys and values by layer."""

    ids: NDArray[np.int64]
    layers: list[KeysValues]

    @property
    def bytes(self) -> int:
        """Memory of the keys and values."""
        return sum(tensor.nbytes for pair in self.layers for tensor in pair)


class ContextCache(LRUCache[int, CachedContext]):
    """Contexts within `max_bytes`; the least recently used are dropped first.

    A context's key is the hash of its last whole block; `currsize` is the memory in bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, getsizeof=lambda cached: cached.bytes)
        self._key_of_block: dict[int, int] = {}  # hash of a block -> key of a context that has it
        self._user_of: dict[int, str] = {}  # by key, for `items` would make every context the most recently used

    def longest(self, ids: Sequence[int]) -> tuple[int, list[KeysValues]]:
        """Find the longest beginning of `ids` that a cached context shares.

        Returns
        -------
        tokens : int
            Length of the common beginning; 0 if there is none.
        layers : list of KeysValues
            Its keys and values by layer; empty if there is none.
        """
        match = self._find(ids)
        if match is None:
            return 0, []
        key, tokens = match
        return tokens, [(keys[:, :, :tokens], values[:, :, :tokens]) for keys, values in self[key].layers]

    def put(self, ids: Sequence[int], layers: list[KeysValues], user: str = "") -> None:
        """Add a context; it replaces the cached context that it continues. One over `max_bytes` is not kept."""
        chain = list(_chain(ids))
        if not chain:
            return
        match = self._find(ids)
        if match is not None and match[1] >= SAME_USER * len(self[match[0]].ids):
            del self[match[0]]
        if chain[-1] in self:
            del self[chain[-1]]
        cached = CachedContext(np.array(ids, np.int64), layers)
        if cached.bytes <= self.maxsize:
            self[chain[-1]] = cached
            self._user_of[chain[-1]] = user
            self._key_of_block.update(dict.fromkeys(chain, chain[-1]))

    def forget(self, users: Collection[str] | None) -> None:
        """Drop the contexts of these users; all contexts for None."""
        for key in [key for key, user in self._user_of.items() if users is None or user in users]:
            del self[key]

    def __delitem__(self, key: int) -> None:
        """Drop a context and the hashes that lead to it."""
        blocks = list(_chain(self[key].ids.tolist()))
        super().__delitem__(key)
        del self._user_of[key]
        for block in blocks:
            if self._key_of_block.get(block) == key:
                del self._key_of_block[block]

    def _find(self, ids: Sequence[int]) -> tuple[int, int] | None:
        """The key of a context with the longest common beginning, and the length of that in tokens."""
        for block in reversed(list(_chain(ids))):
            key = self._key_of_block.get(block)
            if key is not None:
                cached_ids = self[key].ids
                shorter = min(len(cached_ids), len(ids))
                differ = np.flatnonzero(cached_ids[:shorter] != np.array(ids[:shorter], np.int64))
                return key, int(differ[0]) if len(differ) else shorter
        return None


def _chain(ids: Sequence[int]) -> Iterator[int]:
    """A hash for each whole block of tokens and all blocks before it."""
    chained = 0
    for start in range(0, len(ids) - BLOCK + 1, BLOCK):
        chained = hash((chained, *ids[start : start + BLOCK]))
        yield chained
