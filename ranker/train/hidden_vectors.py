"""Hide the vectors of some candidates while a head is fitted, so that it learns what an item without one is.

All items of a log may have a vector, and a later one none. Then it must rank by what else is known of it, as it would
in a shop without the space; that it is a candidate, `Merge.fair_scores` sees to. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ranker.features import PLACE
from ranker.recall.embedding_space import of_one_item

IN_HEAD = 0.5
"""The share of the candidates whose vector is hidden; chosen by us."""


class HiddenVectors:
    """Copies of query groups in which candidates have no vector.

    Parameters
    ----------
    feature_names : sequence of str
        Of the groups.
    seed : int
    """

    def __init__(self, feature_names: Sequence[str], seed: int) -> None:
        self._spaces = [torch.tensor(columns) + 1 for columns in of_one_item(feature_names)]
        self._places = [1 + index for index, name in enumerate(feature_names) if name.endswith(PLACE)]
        self._draw = torch.Generator().manual_seed(seed)

    def spread(self, scale: Tensor) -> None:
        """Give the inputs that say whether there is a vector the deviation that they have with these copies."""
        for columns in self._spaces:
            scale[columns[-1]] = (IN_HEAD / 2 * (1 - IN_HEAD / 2)) ** 0.5

    def with_copies(self, inputs: Tensor, labels: Tensor, is_candidate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the groups, and each once more with some vectors hidden; the groups alone where there is no space.

        A candidate that only the source of the space proposed is none without its vector.

        Parameters
        ----------
        inputs : (groups, width, inputs) float32
            The model's score, then the features.
        labels, is_candidate : (groups, width) bool
        """
        if not self._spaces:
            return inputs, labels, is_candidate
        copy, left = inputs.clone(), is_candidate.clone()
        was_proposed = (inputs[:, :, self._places] > 0).any(dim=2)
        for columns in self._spaces:
            hidden = torch.rand(labels.shape, generator=self._draw) < IN_HEAD
            copy[:, :, columns] *= ~hidden[:, :, None]
        left &= (copy[:, :, self._places] > 0).any(dim=2) | ~was_proposed
        return torch.cat([inputs, copy]), torch.cat([labels, labels & left]), torch.cat([is_candidate, left])
