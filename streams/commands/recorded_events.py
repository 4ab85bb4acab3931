"""The recorded events that `evaluate`, `train` and `compress` read, from the options that name them.

Imports what reads them when it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streams.settings import Settings

if TYPE_CHECKING:
    from streams.datasets.event_log import EventLog


def event_log(
    files: Mapping[str, list[Path] | None],
    shape: tuple[list[str] | None, str | None, list[str] | None, bool],
    dataset: tuple[str, Path] | None,
    settings: Settings,
) -> EventLog:
    """Read the items and events of files, or of a data set.

    Parameters
    ----------
    files : mapping of str to list of Path or None
        Topic -> its files.
    shape : tuple
        The options `--fields`, `--time-unit`, `--where` and `--decimal-comma`.
    dataset : tuple of str and Path, optional
        Its name, and its file or seed.
    settings : Settings
        Shapes of files, the zone of times, and which vectors of items are kept.

    Raises
    ------
    streams.datasets.messages.InputError
        Neither of the two is given, or both, or a file is wrong.
    """
    from encoders.text.sentiment import english
    from streams.datasets.event_log import read_dataset, read_files
    from streams.datasets.field_options import FieldOptions
    from streams.datasets.file_messages import topic_files
    from streams.datasets.messages import InputError
    from streams.receive.user_events import Dwell
    from streams.terminal.progress_bar import progress_bar

    if (not files["items"]) == (dataset is None):
        raise InputError("got neither or both of --items and --dataset; expected one of them")
    sentiment = english() if settings.interest.reviews == "english" else None
    if dataset is not None:
        return read_dataset(*dataset, sentiment=sentiment)
    opened = topic_files(files, FieldOptions.given(*shape), settings.topics, settings.zone, settings.interest.weights)
    with progress_bar() as stage:
        interest, dims = settings.interest, settings.candidates.dims
        dwell = Dwell(interest.full_dwell_s, interest.skip_dwell_s)
        log = read_files(opened, stage("Reading files"), interest.weights, sentiment, dims, dwell)
    for reason, first in opened.account.first.items():
        typer.echo(f"left out: {opened.account.left_out[reason]:,} records, {reason}; first: {first}", err=True)
    return log
