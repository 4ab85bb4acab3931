"""What a reason rests on: events of the user's history, a search, a path in the knowledge graph, or the item's source.

A reason says this and nothing else, whoever words it. Knows no language.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from encoders.describe import one_line

MAX_TITLE_CHARACTERS = 100
"""Of a name in a reason; chosen by us: a line on a shop's page."""
MAX_ALIKE = 3
"""Items of the history that a reason names together; chosen by us."""


class NamedStep(Protocol):
    """The fields of a step of a path in the knowledge graph, as in a rank request."""

    @property
    def relation(self) -> str: ...
    @property
    def to(self) -> str: ...
    @property
    def inverse(self) -> bool: ...


class ReasonedItem(Protocol):
    """The fields of a candidate that a reason needs, as in a rank request."""

    @property
    def item_id(self) -> str: ...
    @property
    def sources(self) -> list[str]: ...
    @property
    def categories(self) -> list[str]: ...
    @property
    def because(self) -> str | None: ...
    @property
    def together(self) -> bool: ...
    @property
    def path(self) -> Sequence[NamedStep]: ...
    @property
    def searched(self) -> str: ...


class Evidence(Protocol):
    """The fields of an event that a reason may cite, as in a rank request."""

    @property
    def item_id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def categories(self) -> list[str]: ...


class CitedItem(NamedTuple):
    """An item of the user's history; `title` is one line."""

    item_id: str
    title: str


class Grounds(NamedTuple):
    """What a reason rests on.

    Attributes
    ----------
    kind : str
        `because` (the user did something with a similar item), `together` (others visited both), `searched`, `pinned`,
        `trending`, `newest` or `other`; with a path `direct`, `inverse`, `both`, `both_inverse` or `linked`.
    event : str
        The type of the cited event.
    cited : CitedItem, optional
        What the template names.
    alike : tuple of CitedItem
        See `with_alike`: items of newest events of the same type.
    category : str
        See `with_alike`: the category that the candidate and all cited items have.
    relation : str
        Of the path's first step, as it is read; empty for a step between an item and one of its entities.
    names : tuple of str
        What people call the nodes between both ends of the path.
    search : str
        What the user searched for.
    """

    kind: str
    event: str = ""
    cited: CitedItem | None = None
    alike: tuple[CitedItem, ...] = ()
    category: str = ""
    relation: str = ""
    names: tuple[str, ...] = ()
    search: str = ""


def grounds_of(candidate: ReasonedItem, history: Sequence[Evidence]) -> Grounds:
    """Give what the reason for a candidate rests on.

    Parameters
    ----------
    candidate : ReasonedItem
    history : sequence of Evidence
        Newest last; what may be cited.
    """
    if candidate.searched:
        return Grounds("searched", search=shortened(candidate.searched))
    others = [event for event in reversed(history) if event.item_id != candidate.item_id]
    event = _cited(candidate, others)
    if event is None:
        sources = ("pinned", "trending", "newest")
        return Grounds(next((source for source in sources if source in candidate.sources), "other"))
    cited = CitedItem(event.item_id, shortened(event.title))
    if candidate.path and event.item_id == candidate.because:
        return _by_path(candidate.path, event.type, cited)
    return Grounds("together" if candidate.together else "because", event.type, cited)


def with_alike(grounds: Grounds, candidate: ReasonedItem, history: Sequence[Evidence]) -> Grounds:
    """Add further items of the candidate's category to grounds of `grounds_of`, for those that say `because`."""
    leaf, cited = candidate.categories[-1:], grounds.cited
    same = [event for event in reversed(history) if leaf and event.categories[-1:] == leaf]
    if grounds.kind != "because" or cited is None or cited.item_id not in {event.item_id for event in same}:
        return grounds
    alike = {event.item_id: CitedItem(event.item_id, shortened(event.title)) for event in same}
    of_type = dict.fromkeys(event.item_id for event in same if event.type == grounds.event)
    more = [alike[item_id] for item_id in of_type if item_id not in (cited.item_id, candidate.item_id)]
    return grounds._replace(alike=tuple(more[: MAX_ALIKE - 1]), category=shortened(leaf[0]))


def shortened(text: str) -> str:
    """The text in one line of at most `MAX_TITLE_CHARACTERS`."""
    line = one_line(text)
    return line if len(line) <= MAX_TITLE_CHARACTERS else f"{line[: MAX_TITLE_CHARACTERS - 1]}…"


def _by_path(path: Sequence[NamedStep], event: str, cited: CitedItem) -> Grounds:
    """What a path says that the candidate and the cited item have in common, or how they are linked."""
    first, last = path[0], path[-1]
    names = tuple(shortened(step.to) for step in path[:-1])
    if not names:
        kind = "inverse" if first.inverse else "direct"
    elif len(names) == 1 and first.relation == last.relation and first.inverse != last.inverse:
        kind = "both_inverse" if first.inverse else "both"
    else:
        kind = "linked"
    return Grounds(kind, event, cited, relation=one_line(first.relation.replace("_", " ")), names=names)


def _cited(candidate: ReasonedItem, newest_first: Sequence[Evidence]) -> Evidence | None:
    """The newest event about the item that the request says; else the newest about an item of the same category."""
    for event in newest_first:
        if event.item_id == candidate.because:
            return event
    leaf = candidate.categories[-1:]
    if not leaf or candidate.together:
        return None
    return next((event for event in newest_first if event.categories[-1:] == leaf), None)
