"""Copies of query groups in which candidates have lost their vector in a space."""

from __future__ import annotations

import torch

from ranker.features import NAMES, place
from ranker.recall.embedding_space import COLUMNS
from ranker.train.hidden_vectors import IN_HEAD, HiddenVectors

GROUPS, WIDTH = 40, 50
FEATURES = (*NAMES, place("nearest-image"), *(f"space_image_{column}" for column in COLUMNS))
OTHER, OWN = 1 + NAMES.index("co_visited_place"), 1 + len(NAMES)


def test_without_a_space_the_groups_are_as_they_were() -> None:
    inputs, labels = torch.ones(2, 3, 1 + len(NAMES)), torch.ones(2, 3, dtype=torch.bool)
    given = inputs, labels, labels
    assert all(one is other for one, other in zip(HiddenVectors(NAMES, 1).with_copies(*given), given, strict=True))


def test_a_copy_lacks_half_of_the_vectors_and_the_candidates_that_they_alone_gave() -> None:
    inputs = torch.ones(GROUPS, WIDTH, 1 + len(FEATURES))
    inputs[:, :, [1 + index for index, name in enumerate(FEATURES) if name.endswith("_place")]] = 0
    inputs[:, :, OWN] = 1  # all are proposed by the space
    inputs[:, :25, OTHER] = 1  # half of them by another source, too
    labels = torch.zeros(GROUPS, WIDTH, dtype=torch.bool)
    labels[:, ::2] = True
    is_candidate = torch.ones(GROUPS, WIDTH, dtype=torch.bool)
    both, relevant, left = HiddenVectors(FEATURES, 1).with_copies(inputs, labels, is_candidate)
    assert torch.equal(both[:GROUPS], inputs)
    assert torch.equal(relevant[:GROUPS], labels)
    copy, relevant, left = both[GROUPS:], relevant[GROUPS:], left[GROUPS:]
    hidden = copy[:, :, OWN] == 0
    assert abs(float(hidden.float().mean()) - IN_HEAD) < 0.05
    of_space = slice(OWN, OWN + len(COLUMNS))  # the place, and all but the last column
    assert (copy[:, :, of_space][hidden] == 0).all()
    assert torch.equal(copy[~hidden], inputs[~hidden])
    assert (copy[:, :, -1] == 1).all(), "what is of the user stays"
    assert torch.equal(left, ~hidden | (torch.arange(WIDTH) < 25))
    assert torch.equal(relevant, labels & left)
