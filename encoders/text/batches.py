"""Rows of token ids in batches of similar length, under a token budget.

Item texts are short and contexts long: sorting by length keeps the padding small. Knows no model; called by
`TextEncoder` and the cross-encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.models.cores import cores, each
from encoders.models.usage import Usage
from encoders.text.tokens import Row

BATCH_TOKENS = 2048  # chosen by us: the best of 512 to 16384 with MiniLM on two cores, by little
LEAST_TOKENS = 64  # of a batch that is made only so that a core has one


def length_sorted(lengths: Sequence[int], cores: int = 1, batch_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Yield the places of the rows of each batch, longest rows first.

    A batch holds at most `batch_tokens` tokens, padding included, and at least one row. There are about as many of a
    size as divide evenly among `cores`.

    >>> list(length_sorted([1, 9, 2, 8], batch_tokens=18))
    [[1, 3], [2, 0]]
    >>> list(length_sorted([100, 100, 100, 100], cores=2))
    [[0, 1], [2, 3]]
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    rounds = -(-sum(lengths) // (cores * batch_tokens))
    batch_tokens = min(batch_tokens, max(LEAST_TOKENS, -(-sum(lengths) // (cores * max(1, rounds)))))
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, lengths[order[start]]))
        yield order[start : start + rows]
        start += rows


def fill(
    out: NDArray[np.float32],
    rows: Sequence[Row],
    compute: Callable[[Sequence[Row]], tuple[NDArray[np.float32], int]],
    device: str,
    usage: Usage,
) -> None:
    """Compute all rows in batches, on all cores, into `out`, (len(rows), ...); counts time and padding.

    `compute` gives a batch's results and its tokens of padding.
    """
    with usage.timing("inference_seconds"):
        batches = list(length_sorted([len(row.ids) for row in rows], cores(device)))
        results = each(lambda places: compute([rows[place] for place in places]), batches, device)
        for places, (of_batch, padding) in zip(batches, results, strict=True):
            out[places] = of_batch
            usage.padding_tokens += padding


def collate(rows: Sequence[Row], pad_id: int, with_types: bool, device: str) -> tuple[dict[str, torch.Tensor], int]:
    """Pad rows on the right.

    Returns
    -------
    inputs : dict of str to tensor
        `input_ids`, `attention_mask` and, if `with_types`, `token_type_ids`: int64, (rows, longest).
    padding : int
        Tokens of padding in them.
    """
    longest = max(len(row.ids) for row in rows)
    gaps = [longest - len(row.ids) for row in rows]
    columns = {
        "input_ids": [row.ids + [pad_id] * gap for row, gap in zip(rows, gaps, strict=True)],
        "attention_mask": [[1] * (longest - gap) + [0] * gap for gap in gaps],
    }
    if with_types:
        columns["token_type_ids"] = [row.types + [0] * gap for row, gap in zip(rows, gaps, strict=True)]
    inputs = {name: torch.tensor(values, dtype=torch.int64, device=device) for name, values in columns.items()}
    return inputs, sum(gaps)
