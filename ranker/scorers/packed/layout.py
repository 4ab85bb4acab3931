"""The positions of each request's context and candidates in the one sequence that a packed scorer computes.

Knows no attention and no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import torch

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer, each (1, key heads, tokens, head size)."""


class Run(NamedTuple):
    """Consecutive candidates of equal length.

    Attributes
    ----------
    start : int
        Position of the first token of the first candidate.
    rows : int
        Number of candidates.
    length : int
        Tokens of each.
    """

    start: int
    rows: int
    length: int


@dataclass
class Segment:
    """One request's part of the sequence: the new tokens of its context, then the runs of its candidates.

    Attributes
    ----------
    start : int
        Position of the first token.
    new : int
        Number of context tokens in the sequence.
    runs : list of Run
    cached : sequence of KeysValues
        By layer, the keys and values of the context tokens before the new ones; empty if there are none.
    record : bool
        Whether the forward pass fills `computed`.
    computed : list of KeysValues
        By layer, the keys and values of the whole context.
    """

    start: int
    new: int
    runs: list[Run]
    cached: Sequence[KeysValues] = ()
    record: bool = False
    computed: list[KeysValues] = field(default_factory=list)


@dataclass(frozen=True)
class Packing:
    """The content of one forward pass.

    Attributes
    ----------
    segments : list of Segment
    causal : bool
        Whether a token sees only the tokens before it, in the context and in a candidate.
    masks : dict
        What the first layer of a kind made for all layers of that kind: a mask by its name.
    """

    segments: list[Segment]
    causal: bool
    masks: dict[Any, Any] = field(default_factory=dict)


def by_length(rows: Sequence[Sequence[int]]) -> tuple[list[int], list[tuple[int, int]]]:
    """Sort rows by length: return their indices in that order, and each length with the number of rows of it.

    >>> by_length([[7, 7], [5], [6, 6]])
    ([1, 0, 2], [(1, 1), (2, 2)])
    """
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    return order, [(length, len(list(same))) for length, same in groupby(len(rows[index]) for index in order)]


def runs(start: int, lengths: Sequence[tuple[int, int]]) -> Iterator[Run]:
    """Yield the runs of rows that are sorted by length and begin at `start`."""
    for length, count in lengths:
        yield Run(start, count, length)
        start += length * count


def context_of(segment: Segment, layer: int, key: torch.Tensor, value: torch.Tensor) -> KeysValues:
    """Return keys and values of a request's whole context in one layer, and record them where the segment says so."""
    new = slice(segment.start, segment.start + segment.new)
    context = key[:, :, new], value[:, :, new]
    if segment.cached:
        before = segment.cached[layer]
        context = torch.cat([before[0], context[0]], 2), torch.cat([before[1], context[1]], 2)
    if segment.record:
        segment.computed.append((context[0].contiguous(), context[1].contiguous()))
    return context
