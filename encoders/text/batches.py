"""Rows of token ids in batches of similar length, under a token budget.

Item texts are short and contexts long: sorting by length keeps the padding small. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.models.cores import cores, map_batches, tokens_of_batch
from encoders.models.usage import Usage
from encoders.text.tokens import Row

BATCH_TOKENS = 2048
"""On a CPU, chosen by us: the best of 512 to 16384 with MiniLM on two cores, by little."""
MIN_BATCH_TOKENS = 64
"""Of a batch that is made only to give every core one."""


def length_sorted(lengths: Sequence[int], cores: int = 1, batch_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Yield the row indices of each batch, longest rows first.

    A batch holds at most `batch_tokens` tokens, padding included, and at least one row. The number of batches is about
    a multiple of `cores`.

    >>> list(length_sorted([1, 9, 2, 8], batch_tokens=18))
    [[1, 3], [2, 0]]
    >>> list(length_sorted([100, 100, 100, 100], cores=2))
    [[0, 1], [2, 3]]
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    rounds = -(-sum(lengths) // (cores * batch_tokens))
    batch_tokens = min(batch_tokens, max(MIN_BATCH_TOKENS, -(-sum(lengths) // (cores * max(1, rounds)))))
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, lengths[order[start]]))
        yield order[start : start + rows]
        start += rows


def compute_in_batches(
    out: NDArray[np.float32],
    rows: Sequence[Row],
    compute: Callable[[Sequence[Row]], tuple[NDArray[np.float32], int]],
    device: str,
    usage: Usage,
) -> None:
    """Compute all rows in batches on all cores, and count time and padding.

    Parameters
    ----------
    out : (len(rows), ...) float32
        Receives the results, in the order of the rows.
    rows : sequence of Row
    compute : callable
        Returns the results of one batch and its tokens of padding.
    device : {'cpu', 'cuda'}
    usage : Usage
    """
    with usage.timing("inference_seconds"):
        lengths = [len(row.ids) for row in rows]
        batches = list(length_sorted(lengths, cores(device), tokens_of_batch(device, BATCH_TOKENS)))
        results = map_batches(lambda indices: compute([rows[index] for index in indices]), batches, device)
        for indices, (of_batch, padding) in zip(batches, results, strict=True):
            out[indices] = of_batch
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
