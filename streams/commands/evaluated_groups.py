"""What `evaluate --by` and `--rules` need of a catalogue: its groups, and its items as rules see them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ranker.evaluation.groups import item_groups, user_groups
from ranker.evaluation.judge import GroundTruth, Groups
from ranker.rules.conditions import values_of
from ranker.rules.item_table import ItemTable
from ranker.rules.reading import PER, read
from streams.contracts import Item
from streams.datasets.messages import InputError

BY_EVENTS = "events"
FIELDS = (BY_EVENTS, "category", *PER)


def check_groups(by: str | None, rules: Path | None, plot: Path | None) -> None:
    """Refuse what can be refused before minutes are spent on the files.

    Raises
    ------
    InputError
        There is no such field, a plot needs `--by`, or cannot be drawn.
    ranker.rules.reading.RulesError
    """
    if by is not None and by not in FIELDS and not (by.startswith("attributes.") and by != "attributes."):
        raise InputError(f"--by: got {by!r}, expected {', '.join(FIELDS)} or attributes.NAME")
    if plot is not None and by is None:
        raise InputError("--plot: got it without --by, expected both: it shows groups")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot: got no matplotlib, expected it; pip install 'afterclick[bench]'")
    if rules is not None:
        read(rules)


def grouped(by: str | None, items: Sequence[Item], truth: GroundTruth) -> Groups | None:
    """Return the groups by a field of items, or by the users' events; None for None."""
    if by is None:
        return None
    if by == BY_EVENTS:
        return user_groups(truth.history_lengths)
    is_leaf = by in ("category", "categories")
    values = [values_of(item, "categories" if is_leaf else by) for item in items]
    return item_groups([of_item[-1:] if is_leaf else of_item for of_item in values])


def table_of(rules: Path | None, items: Sequence[Item]) -> ItemTable | None:
    """Return the items as the rules of a file see them; None for None."""
    if rules is None:
        return None
    table = ItemTable(read(rules))
    for item in items:
        table.put(item)
    return table
