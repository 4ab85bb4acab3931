"""What the fits of learnt sources read beside the log: vectors and links of items, and how long each fit may take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from encoders.events.entries import item_key
from encoders.interest import Vector
from ranker.evaluation.interactions import Interactions
from ranker.knowledge.graph import NO_NODE, KnowledgeGraph
from ranker.recall.adapted_text import AdaptedText
from ranker.recall.embedding_space import embedding_space
from ranker.recall.fatigue import Fatigue
from ranker.recall.learnt_knowledge import LearntKnowledge
from ranker.recall.learnt_neighbours import LearntNeighbours
from ranker.recall.number_feature import NumberFeature, number_feature
from ranker.recall.trained import LearntSource
from ranker.recall.user_signs import UserSigns
from ranker.train.context_choices import choices_before, codes_of
from ranker.train.fitted_source import FittedSource, cuts_of
from streams.contracts import Item, Triple
from streams.receive.embeddings import numbers_of, packed_vectors
from streams.settings import Settings

SPACES_SHARE = 1 / 3
"""Of the time between the fit of the knowledge graph and the end of reading; chosen by us."""
FitDeadlines = Mapping[type[LearntSource], float]


def fit_deadlines(
    settings: Settings, neighbours: float, adapting: float, linking: float, reading: float
) -> FitDeadlines:
    """When each learnt source must be fitted, in seconds of `time.monotonic()`, in the order of the fits.

    Parameters
    ----------
    settings : Settings
        Name the spaces of the vectors that items bring.
    neighbours, adapting, linking : float
        For the neighbours, for the texts, and for the knowledge graph.
    reading : float
        When the log must be read. The spaces share `SPACES_SHARE` of the time between the knowledge graph and this.
    """
    spaces = [embedding_space(name) for name in settings.candidates.dims]
    each = SPACES_SHARE * (reading - linking) / max(1, len(spaces))
    of_spaces = {space: linking + each * number for number, space in enumerate(spaces, 1)}
    of_numbers = {number_feature(name): reading for name in settings.candidates.numbers}
    fixed = {
        LearntNeighbours: neighbours,
        AdaptedText: adapting,
        UserSigns: adapting,
        LearntKnowledge: linking,
        Fatigue: linking,
    }
    return {**fixed, **of_spaces, **of_numbers}


def fit_number(kind: type[NumberFeature], items: Sequence[Item], log: Interactions) -> FittedSource | None:
    """The part of a number; None if no item has it. It knows no event, so one serves the whole log."""
    values = [value for item in items for _, value in numbers_of(item, [kind.number])]
    if not values:
        return None
    part, cuts = kind.of(values), cuts_of(log)
    return FittedSource(cuts, [part] * len(cuts), part, {"items": len(values)})


def fit_signs(
    context_keys: Sequence[str], log: Interactions, vectors_of: Callable[[Sequence[str]], Vector]
) -> FittedSource | None:
    """The part of events of all types and of contexts; None if the log has clicks and purchases alone.

    Parameters
    ----------
    context_keys : sequence of str
        The keys of contexts that are features.
    log : Interactions
    vectors_of : callable
        Gives the text vectors of items by their ids, (n, dim) float32; called if the log has one of the keys.
    """
    if not log.has_signs:
        return None
    codes = {key: found for key in context_keys if (found := codes_of(log, key)).values}
    vectors = vectors_of(log.names.items) if codes else np.empty((0, 0), np.float32)
    begins = cuts_of(log)
    choices = [choices_before(end, log, codes, vectors) for end in (*begins, len(log))]
    *sources, final = (UserSigns(context_keys, of_part) for of_part in choices)
    return FittedSource(begins, [*sources], final, {})


def fit_fatigue(log: Interactions) -> FittedSource | None:
    """The part of lists that were shown again and again; None if the log has no impressions. It learns nothing."""
    begins, fatigue = cuts_of(log), Fatigue()
    has_shown = any(sign.shown is not None for sign in log.signs)
    return FittedSource(begins, [fatigue for _ in begins], fatigue, {}) if has_shown else None


def graph_of(items: Sequence[Item], triples: Sequence[Triple]) -> KnowledgeGraph:
    """The knowledge graph of items and triples, as a worker has it."""
    graph = KnowledgeGraph(lambda key: NO_NODE)
    for triple in triples:
        graph.put(triple.head, triple.relation, triple.tail)
    for item in items:
        graph.put_item(item_key(item.item_id), item.item_id, NO_NODE, item.entities)
    return graph


def embeddings_of(items: Sequence[Item], name: str) -> tuple[list[str], Vector]:
    """The ids of the items that have a vector of this name, and the vectors, (n, dim) float32."""
    having = {item.item_id: vector for item in items if (vector := dict(packed_vectors(item)).get(name)) is not None}
    vectors = [np.frombuffer(vector, "<f2") for vector in having.values()]
    return list(having), np.array(vectors, np.float32) if vectors else np.empty((0, 1), np.float32)
