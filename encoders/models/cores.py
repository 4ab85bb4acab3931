"""Batches on the cores of a CPU, one batch on each core at a time, or one large batch on a GPU.

The alternative, one batch on all cores, waits for the slowest thread at the end of every operation, and so for every
core that has other work. With MiniLM on two cores, one batch a core was 1.2 times as fast on an idle machine and 1.4
times beside a busy process. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TypeVar

import torch

CUDA_TOKENS = 32_768
"""Of a batch on a GPU, chosen by us. An H200 made of 32 requests at once, in bfloat16, by tokens of a batch:

| tokens | 2,048 | 8,192 | 16,384 | 32,768 | 65,536 |
|---|---|---|---|---|---|
| lists/s, packed decoder of Qwen3-0.6B's shape | 24 | 86 | 102 | 106 | 104 |
| packed encoder of MiniLM's shape | 76 | 248 | 332 | 372 | 428 |
| bi-encoder, MiniLM, nothing cached | 184 | 470 | | 539 | |
"""
Batch = TypeVar("Batch")
Result = TypeVar("Result")


def cores(device: str) -> int:
    """Return the number of batches that `map_batches` computes at once: torch's threads on a CPU, 1 on a GPU."""
    return _threads() if device == "cpu" else 1


def tokens_of_batch(device: str, on_a_cpu: int) -> int:
    """Return the most tokens of a batch: those that suit the model on a CPU, or `CUDA_TOKENS`."""
    return on_a_cpu if device == "cpu" else CUDA_TOKENS


def map_batches(function: Callable[[Batch], Result], batches: Sequence[Batch], device: str) -> list[Result]:
    """Call the function on each batch, without gradients; return the results in order.

    A single batch uses all cores. The first error is raised.

    Parameters
    ----------
    function : callable
        Called from worker threads on a CPU with several cores.
    batches : sequence
    device : {'cpu', 'cuda'}
    """
    call = torch.inference_mode()(function)
    one_at_a_time = len(batches) == 1 or cores(device) == 1
    return list(map(call, batches) if one_at_a_time else _pool().map(call, batches))


@cache
def _threads() -> int:
    return torch.get_num_threads()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_threads(), "core", partial(torch.set_num_threads, 1))
