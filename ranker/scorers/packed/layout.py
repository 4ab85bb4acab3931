"""Where each user's context and candidates lie in the one sequence that a packed scorer computes.

Knows no attention; `packing` and `flex` attend over it, `packed_decoder` and `packed_encoder` lay it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import torch

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Of one layer: two tensors (1, key heads, tokens, head size)."""


class Run(NamedTuple):
    """Candidates of equal length, one after the other: where the first begins, how many, tokens of each."""

    start: int
    rows: int
    length: int


@dataclass
class Pack:
    """One user's part of the sequence: `new` tokens of context from `start` on, then the runs of its candidates.

    Attributes
    ----------
    kept : by layer, the keys and values of the context's tokens before the new ones; empty if there are none.
    computed : by layer, those of the whole context, filled during the forward pass where `keep` says so.
    """

    start: int
    new: int
    runs: list[Run]
    kept: Sequence[KeysValues] = ()
    keep: bool = False
    computed: list[KeysValues] = field(default_factory=list)


@dataclass(frozen=True)
class Packing:
    """What one forward pass holds.

    Attributes
    ----------
    causal : tokens see only those before them, within context and candidate alike.
    masks : who sees whom, as CUDA's attention wants it; made by the first layer for all.
    """

    packs: list[Pack]
    causal: bool
    masks: list[Any] = field(default_factory=list)


def by_length(rows: Sequence[Sequence[int]]) -> tuple[list[int], list[tuple[int, int]]]:
    """Sort rows by length: their places in that order, and each length with how many rows have it.

    >>> by_length([[7, 7], [5], [6, 6]])
    ([1, 0, 2], [(1, 1), (2, 2)])
    """
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    return order, [(length, len(list(same))) for length, same in groupby(len(rows[place]) for place in order)]


def runs(start: int, lengths: Sequence[tuple[int, int]]) -> Iterator[Run]:
    """The runs of rows sorted by length that begin at `start`."""
    for length, count in lengths:
        yield Run(start, count, length)
        start += length * count


def context_of(pack: Pack, layer: int, key: torch.Tensor, value: torch.Tensor) -> KeysValues:
    """Keys and values of a user's whole context in one layer, kept and new; noted where they are to be kept."""
    own = slice(pack.start, pack.start + pack.new)
    context = key[:, :, own], value[:, :, own]
    if pack.kept:
        before = pack.kept[layer]
        context = torch.cat([before[0], context[0]], 2), torch.cat([before[1], context[1]], 2)
    if pack.keep:
        pack.computed.append((context[0].contiguous(), context[1].contiguous()))
    return context
