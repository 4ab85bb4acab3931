"""Split a log by a protocol's name and a cut, as the command line gives them. Knows no system."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from encoders.event_time import milliseconds
from ranker.evaluation.impressions import ShownList, impressions
from ranker.evaluation.interactions import Interactions
from ranker.evaluation.protocols import (
    Split,
    index_of_share,
    leave_one_out,
    next_basket,
    prequential,
    time_split,
)
from streams.datasets.messages import InputError

PROTOCOLS = ("leave-one-out", "next-basket", "time-split", "prequential", "impressions")
CUT = 0.8
"""Share of the log before the cut where none is given; the usual 80 to 20."""


def split_by_protocol(protocol: str, log: Interactions, shown_lists: Sequence[ShownList], cut: str | None) -> Split:
    """Split an ordered log.

    Parameters
    ----------
    protocol : str
        One of `PROTOCOLS`.
    log : Interactions
        As `ranker.evaluation.interactions.ordered` returns it.
    shown_lists : sequence of ShownList
        Only `impressions` uses them.
    cut : str or None
        Where the cases of `time-split`, `prequential` and `impressions` begin: a time with an offset, or the share of
        events before it; None: `CUT`.

    Raises
    ------
    InputError
        There is no such protocol, or the cut is neither a time nor a share, or lies outside the log.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol: got {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    if protocol == "leave-one-out":
        return leave_one_out(log)
    if protocol == "next-basket":
        return next_basket(log)
    index = cut_index(log, cut)
    if protocol == "time-split":
        return time_split(log, int(log.time_ms[index]))
    return prequential(log, index) if protocol == "prequential" else impressions(log, shown_lists, index)


def cut_index(log: Interactions, cut: str | None) -> int:
    """Return the index of the first event after a cut; see `split_by_protocol`."""
    try:
        share = CUT if cut is None else float(cut)
    except ValueError:
        share = None
    if share is not None:
        if not 0 < share < 1:
            raise InputError(f"--cut: got {cut}, expected a share between 0 and 1, or a time such as 2011-11-01T00:00Z")
        return min(index_of_share(log, share), len(log) - 1)
    try:
        moment = datetime.fromisoformat(str(cut).replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InputError(f"--cut: got {cut}, expected a time with an offset such as 2011-11-01T00:00Z, or a share")
    cut_ms = milliseconds(moment)
    index = int(np.searchsorted(log.time_ms, cut_ms))
    if not 0 < index < len(log):
        raise InputError(f"--cut: got {cut}, expected a time within the log; it has events on one side only")
    return index
