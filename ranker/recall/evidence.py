"""Which item of the user's history a reason cites for a candidate: the one that a person would name. Knows no words.

A candidate is like an item of the same category, or of a near text. It is what the user searched for, if no similar
item is in the history since. Items that others visited together may have nothing in common that the user sees, so such
an item is cited only where no similar one is in the history. What the knowledge graph says that two items have in
common is told with the path, so it comes first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.prototypes import SAME_INTEREST
from ranker.knowledge.paths import Path, best_paths
from ranker.knowledge.walk import Walk
from ranker.recall.item_columns import NO_NUMBER, ItemColumns
from ranker.recall.pull import search_matches
from ranker.recall.user_view import UserView

Keys = npt.NDArray[np.uint64]
CITED_MATCH = 0.5
"""From which match on a search is cited; chosen by us: the middle between no match and a full one."""


class Cited(NamedTuple):
    """What to cite for each candidate.

    Attributes
    ----------
    keys : (n,) uint64
        Keys of items of the history; 0 for none.
    similar : (n,) bool
        Whether the item is like the candidate. Otherwise others visited both.
    paths : list of Path or None
        The path from the item to the candidate, where it is cited for that.
    searches : list of str
        The search to cite in place of an item; '' for none.
    """

    keys: Keys
    similar: npt.NDArray[np.bool_]
    paths: list[Path | None]
    searches: list[str]


def cite(user: UserView, candidates: ItemColumns, visited_with: Keys, walk: Walk | None = None) -> Cited:
    """Choose what to cite.

    1. The item from which one or two steps lead to the candidate in the knowledge graph.
    2. Else the item of the candidate's category whose text is nearest.
    3. Else the item whose text is nearest, if its cosine is at least `SAME_INTEREST`.
    4. Else the item from which three steps lead to the candidate.
    5. Else the item that others visited together with the candidate.

    Among equals the newest is cited, and never the candidate itself. A search of the session that the candidate
    matches, or that showed it, is cited instead if it is newer than the event, or if nothing similar is there.

    Parameters
    ----------
    user : UserView
        The user.
    candidates : ItemColumns
        The candidates.
    visited_with : (n,) uint64
        For each candidate the key of the item of the history that led a source to it; 0 for none.
    walk : Walk, optional
        What the paths are to follow. None: all relations alike.
    """
    events, rows, _ = user.known_history
    if not len(events):
        nothing = np.zeros(len(visited_with), np.bool_)
        no_keys = np.zeros_like(visited_with)
        return Cited(no_keys, nothing, [None] * len(visited_with), _searches(user, candidates, no_keys, nothing))
    newest_first = slice(None, None, -1)
    keys, category = events["item"][newest_first], user.catalogue.category[rows][newest_first]
    cosines = user.cosines(candidates)[:, newest_first].copy()
    cosines[candidates.keys[:, None] == keys] = -np.inf
    same = (candidates.category[:, None] == category) & (category != NO_NUMBER)
    nearest = np.where(same, cosines + 2, cosines).argmax(axis=1)  # cosines are at most 1, so the category decides
    each = np.arange(len(nearest))
    found = cosines[each, nearest]
    similar = np.isfinite(found) & (same[each, nearest] | (found >= SAME_INTEREST))
    chosen = np.where(similar, keys[nearest], visited_with)
    paths = _paths(user, walk or user.walk, candidates, similar)
    for index, path in enumerate(paths):
        if path is not None:
            chosen[index], similar[index] = path.start, True
    return Cited(chosen, similar, paths, _searches(user, candidates, chosen, similar))


def _searches(user: UserView, candidates: ItemColumns, cited: Keys, similar: npt.NDArray[np.bool_]) -> list[str]:
    """The search to cite for each candidate; '' for none."""
    searches = user.recent_searches
    if not searches:
        return [""] * len(cited)
    matches = search_matches(user, candidates)
    for column, search in enumerate(searches):
        matches[np.isin(candidates.keys, np.array(search.results, np.uint64)), column] = 1
    best = matches.shape[1] - 1 - matches[:, ::-1].argmax(axis=1)  # of equals the newest
    newest_ms = dict(user.liked[["item", "time_ms"]].tolist())
    event_ms = [
        newest_ms.get(key, 0) if like else 0 for key, like in zip(cited.tolist(), similar.tolist(), strict=True)
    ]
    return [
        searches[column].text if match >= CITED_MATCH and searches[column].time_ms > since_ms else ""
        for column, match, since_ms in zip(best.tolist(), matches.max(axis=1).tolist(), event_ms, strict=True)
    ]


def _paths(user: UserView, walk: Walk, candidates: ItemColumns, similar: npt.NDArray[np.bool_]) -> list[Path | None]:
    """The path to cite for each candidate; one of three steps only where no item is similar."""
    if walk.is_empty:
        return [None] * len(similar)
    return best_paths(user.catalogue.knowledge, walk, candidates.nodes, similar.tolist())
