"""The features of a rank request's candidates, as a request has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from encoders.interest import Vector
from ranker import features
from ranker.recall.candidates import RecalledCandidate
from ranker.recall.item_columns import ItemColumns
from ranker.recall.trained import TrainedRecall
from ranker.recall.user_view import UserView
from streams.contracts import Candidate, Features
from streams.state.item_dates import described

_NOT_RECALLED = RecalledCandidate(-1, 0.0, {}, None)


def features_of(
    trained: TrainedRecall, shopper: UserView, columns: ItemColumns, candidates: Iterable[RecalledCandidate]
) -> Features:
    """Return the features of recalled candidates.

    Parameters
    ----------
    trained : TrainedRecall
        What the model brought along, which reads them.
    shopper : UserView
        The user.
    columns : ItemColumns
        Of the candidates' items, in their order.
    candidates : iterable of RecalledCandidate
    """
    ranks = [candidate.ranks for candidate in candidates]
    values = features.features(shopper, columns, ranks, trained.learnt)
    return Features(schema=features.SCHEMA, values=values.tobytes(), version=trained.version)


def features_of_given(
    trained: TrainedRecall,
    shopper: UserView,
    candidates: Sequence[Candidate],
    recalled_of: Mapping[str, RecalledCandidate],
    vectors: Mapping[str, Vector],
) -> Features:
    """Return the features of candidates of others, of which some may be no items of the catalogue.

    Parameters
    ----------
    trained, shopper
        See `features_of`.
    candidates : sequence of Candidate
    recalled_of : mapping of str to RecalledCandidate
        By item id, of those that the catalogue knows.
    vectors : mapping of str to numpy.ndarray
        Of the texts of the others.
    """
    recalled = [recalled_of.get(candidate.item_id, _NOT_RECALLED) for candidate in candidates]
    unknown = [index for index, one in enumerate(recalled) if one is _NOT_RECALLED]
    known = [index for index, one in enumerate(recalled) if one is not _NOT_RECALLED]
    columns = shopper.catalogue.columns(np.array([recalled[index].row for index in known], np.intp))
    if unknown:
        items = [described(candidates[index], shopper.state.as_of_ms) for index in unknown]
        new = shopper.catalogue.columns_of_new(items, np.array([vectors[item.text] for item in items], np.float32))
        columns = columns.followed_by(new, np.argsort([*known, *unknown]))
    return features_of(trained, shopper, columns, recalled)
