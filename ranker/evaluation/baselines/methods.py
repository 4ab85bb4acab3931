"""Every baseline, in the order of the table. A mixture stands after its parts."""

from __future__ import annotations

from ranker.evaluation.baselines.adapted import AdaptedContent
from ranker.evaluation.baselines.content import Content
from ranker.evaluation.baselines.counting import Popularity, Random, Recency, RecentPopularity
from ranker.evaluation.baselines.factors import Als, Bpr
from ranker.evaluation.baselines.linear import Ease, Slit
from ranker.evaluation.baselines.method import Method
from ranker.evaluation.baselines.mixed import Hybrid, SasRecAndCounter
from ranker.evaluation.baselines.neighbours import ItemKnn, UserKnn
from ranker.evaluation.baselines.sasrec import SasRec

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Random,
        Popularity,
        RecentPopularity,
        Recency,
        UserKnn,
        ItemKnn,
        Als,
        Bpr,
        Slit,
        Ease,
        Content,
        AdaptedContent,
        Hybrid,
        SasRec,
        SasRecAndCounter,
    )
}


def with_parts(names: list[str]) -> list[str]:
    """These baselines and their parts, in the order of `METHODS`."""
    wanted = set(names)
    for name in names:
        wanted.update(METHODS[name].parts)
    return [name for name in METHODS if name in wanted]
