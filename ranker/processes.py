"""The processes of one run, as `torchrun` starts them. Each computes its share; the result is that of one process.

Process 0, the first one, reads the data, decides by its clock, writes and prints. In a run of one process the functions
here only call what they are given. Gradients and scores are sums of what each process has: Gloo sums tensors on the
CPU, NCCL those on CUDA. Knows no model.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from encoders.errors import AfterclickError

T = TypeVar("T")
LONGEST_WAIT = timedelta(days=7)
"""For the first process, which reads the log alone. A process that ends is noticed at once."""
ENDED = "afterclick-ended"
"""Counts the processes that ended with an error."""
SOURCE_LINE = re.compile(r"^\[\S+:\d+\] ")
"""What Gloo's errors begin with."""
GO_ON = "start the same command again: it goes on from its checkpoint"


class ProcessesFailed(AfterclickError):
    """The processes of a run cannot work together, or one of them has ended; the message says what to do."""


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if _are_several() else 0


def count() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if _are_several() else 1


def is_first() -> bool:
    """Return whether this is the process that reads, writes and speaks."""
    return rank() == 0


@contextmanager
def joined() -> Iterator[bool]:
    """Join the other processes, if `torchrun` started several. All but the first one print nothing.

    Of several processes that end with an error only the one that ends first says why.

    Yields
    ------
    bool
        Whether this is the first process.

    Raises
    ------
    ProcessesFailed
        Another process has ended.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield True
        return
    has_cuda = torch.cuda.is_available()
    if has_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    store, number, processes = next(rendezvous("env://"))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if has_cuda else "gloo",
        store=store,
        rank=number,
        world_size=processes,
        timeout=LONGEST_WAIT,
    )
    before = signal.signal(signal.SIGTERM, _told_to_end)
    try:
        with _quiet(number > 0):
            yield number == 0
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends now, and may have to say why
        if _is_first_to_end(store):
            raise
        raise SystemExit(1) from None
    signal.signal(signal.SIGTERM, before)
    dist.destroy_process_group()


def from_first(value: Any) -> Any:
    """Return what the first process gives, in all processes; it is pickled."""
    if not _are_several():
        return value
    box = [value]
    with _answered():
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def by_first(action: Callable[[], T]) -> T:
    """Let the first process act while the others wait. Returns its result, in all processes."""
    result: T = from_first(action() if is_first() else None)
    return result


def is_over(deadline: float) -> bool:
    """Return whether the first process's `time.monotonic()`, in seconds, has passed its deadline."""
    over = time.monotonic() > deadline
    if not _are_several():
        return over
    decided = torch.tensor([over], dtype=torch.uint8)
    with _answered():
        dist.broadcast(decided, src=0)
    return bool(decided)


def sum_array(array: npt.NDArray[np.float32]) -> None:
    """Put the sum of all processes' arrays, which have one shape, in place of each."""
    if _are_several():
        with _answered():
            dist.all_reduce(torch.from_numpy(array))


def sum_gradients(weights: Sequence[torch.nn.Parameter]) -> None:
    """Put the sum of all processes' gradients in place of each.

    A weight without a gradient in all processes keeps none, so that an optimiser leaves it alone.
    """
    if not _are_several():
        return
    with _answered():
        has_gradient = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.uint8)
        dist.all_reduce(has_gradient, dist.ReduceOp.MAX)
        for weight, has in zip(weights, has_gradient.tolist(), strict=True):
            if has:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                dist.all_reduce(weight.grad)


def _are_several() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def _answered() -> Iterator[None]:
    """Name the process that got no answer from the others."""
    try:
        yield
    except RuntimeError as error:
        reason = SOURCE_LINE.sub("", str(error)).partition(". ")[0].partition("\n")[0]
        raise ProcessesFailed(
            f"process {rank()} of {count()}: got no answer from another process, which has ended ({reason}); see what "
            f"torchrun says of it, and {GO_ON}"
        ) from error


def _told_to_end(*_: object) -> NoReturn:
    raise ProcessesFailed(
        f"process {rank()} of {count()}: got SIGTERM from torchrun, which ends all processes when one has ended; see "
        f"what it says of that one, and {GO_ON}"
    )


def _is_first_to_end(store: Store) -> bool:
    """Whether no other process has ended with an error; the store is torchrun's own, and outlives them."""
    try:
        return bool(store.add(ENDED, 1) == 1)
    except RuntimeError:
        return True


@contextmanager
def _quiet(is_quiet: bool) -> Iterator[None]:
    if not is_quiet:
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield
