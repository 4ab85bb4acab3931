"""A path in the knowledge graph as a rank request carries it: with what people call its nodes."""

from __future__ import annotations

from encoders.describe import one_line
from ranker.knowledge.paths import Path
from ranker.recall.catalogue import Catalogue
from streams.contracts import PathStep

MAX_CHARACTERS = 100
"""Of a name; chosen by us: as in a reason."""


def path_in_words(path: Path, catalogue: Catalogue) -> list[PathStep]:
    """Name the nodes between both ends: an item by its title, another node by its name, or else by its id."""
    *between, last = path.steps
    named = [PathStep(relation=step.relation, to=_name(step.node, catalogue), inverse=step.inverse) for step in between]
    return [*named, PathStep(relation=last.relation, inverse=last.inverse)]


def _name(node: int, catalogue: Catalogue) -> str:
    row = int(catalogue.knowledge.rows[node])
    name = catalogue.at(row).title if row >= 0 else catalogue.knowledge.label(node)
    return one_line(name)[:MAX_CHARACTERS]
