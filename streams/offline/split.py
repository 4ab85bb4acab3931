"""Take a log apart by a protocol's name, as the command line names it: for `evaluate`, and for what training holds out.

Knows no system; `ranker.evaluation.protocols` does the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from encoders.event_time import milliseconds
from ranker.evaluation.protocols import (
    Interaction,
    Shown,
    Split,
    impressions,
    leave_one_out,
    next_basket,
    place_of_share,
    prequential,
    time_split,
)
from streams.datasets.messages import InputError

PROTOCOLS = ("leave-one-out", "next-basket", "time-split", "prequential", "impressions")
CUT = 0.8
"""Share of the log before the cut where none is given; the usual 80 to 20."""


def split_by(protocol: str, log: Sequence[Interaction], shown: Sequence[Shown], cut: str | None) -> Split:
    """Take an ordered log apart.

    Parameters
    ----------
    log : as `ranker.evaluation.protocols.ordered` gives it.
    shown : lists that were shown; only `impressions` asks for them.
    cut : where `time-split`, `prequential` and `impressions` begin to ask: a time with an offset, or the share of
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
    place = _place(log, cut)
    if protocol == "time-split":
        return time_split(log, log[place].time_ms)
    return prequential(log, place) if protocol == "prequential" else impressions(log, shown, place)


def _place(log: Sequence[Interaction], cut: str | None) -> int:
    try:
        share = CUT if cut is None else float(cut)
    except ValueError:
        share = None
    if share is not None:
        if not 0 < share < 1:
            raise InputError(f"--cut: got {cut}, expected a share between 0 and 1, or a time such as 2011-11-01T00:00Z")
        return min(place_of_share(log, share), len(log) - 1)
    try:
        moment = datetime.fromisoformat(str(cut).replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InputError(f"--cut: got {cut}, expected a time with an offset such as 2011-11-01T00:00Z, or a share")
    cut_ms = milliseconds(moment)
    place = next((place for place, event in enumerate(log) if event.time_ms >= cut_ms), None)
    if not place:
        raise InputError(f"--cut: got {cut}, expected a time within the log; it has events on one side only")
    return place
