"""The values that a shell offers for arguments and options.

Imports no model and no Kafka, so that Tab answers at once.
"""

from __future__ import annotations

from collections.abc import Callable

from streams import metric_labels

PROTOCOLS = ("leave-one-out", "next-basket", "time-split", "prequential", "impressions")
DATASETS = (
    "online-retail",
    "generated-shop",
    "search-shop",
    "wish-shop",
    "knowledge-shop",
    "seller-shop",
    "audio-shop",
)
LOSSES = ("softmax", "ranknet", "lambdarank")
FORMS = ("packed", "cross")
MODELS = ("default", "none")
RANKERS = ("greedy", "careful")
"""The built-in rankers of a simulation, which has both by default."""
CARDS = ("L4", "A10G", "L40S", "A100", "H100")
BENCHES = (
    "pipeline",
    "returning",
    "scorer",
    "rerank",
    "state",
    "start",
    "candidates",
    "learnt",
    "rules",
    "knowledge",
    "profiles",
    "growth",
    "http",
)
BASELINES = (
    "random",
    "popularity",
    "popularity-recent",
    "recency",
    "user-knn",
    "item-knn",
    "als",
    "bpr",
    "slit",
    "ease",
    "content",
    "adapted-text",
    "hybrid",
    "sasrec",
    "sasrec+item-knn",
)
INPUTS = metric_labels.INPUTS
"""The topics that messages are rejected from."""


def one_of(*values: str) -> Callable[[str], list[str]]:
    """Return what offers those of some values that begin as what is typed.

    >>> one_of("clicks", "purchases")("cl")
    ['clicks']
    """
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def schemas(incomplete: str) -> list[str]:
    """Offer the names that `afterclick schema` knows."""
    from streams.commands.schema import STRUCTS

    return one_of(*STRUCTS)(incomplete)


def systems(incomplete: str) -> list[str]:
    """Offer the systems of `afterclick evaluate`, one after the other with commas."""
    *before, last = incomplete.split(",")
    names = ("afterclick", "afterclick-no-model", *BASELINES)
    return [",".join([*before, name]) for name in names if name.startswith(last) and name not in before]
