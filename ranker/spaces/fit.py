"""Fit an adapter of texts' vectors: at each event of a user, tell the item that comes next from all others.

The loss is the cross-entropy over the items, all of them or a sample. A popular item gets a bias, `log(1/2 + events)`
times a factor that is learnt, so that the space need not say what is popular. The bias is dropped in service: other
sources know it better. What is learnt is the difference from the texts' own similarity (their principal components).
Weight decay pulls towards that: with few events the space stays that of the texts.

Vectors: frozen. Loss over all items: Klenitskiy and Vasilev, RecSys 2023. Knows no log.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.interest import Vector
from ranker.progress import Progress, silent
from ranker.spaces.adapter import MAX_HISTORY, Adapter

Ints = npt.NDArray[np.int64]

DIM = 128
"""Of the space: with 64 recall was a tenth lower on a tenth of Online Retail; 384 brought nothing there."""
DECAYS = (0.1, 3.0, 20.0)
"""Events: the newest alone, a visit, and the whole history. Chosen on a tenth of Online Retail and a generated shop."""
LEARNING_RATE, WEIGHT_DECAY = 5e-4, 1.0
"""AdamW. On a tenth of Online Retail recall@100 was .143 at 5e-4, .134 at 1e-3 and .118 at 2e-3; .747, .746 and .746 on
a generated shop. A faster rate of the scale was worse on both."""
FAST_RATE = 0.02
"""Of the shares of the means in a query, which say whether the newest item counts or the whole history."""
BATCH, LEAST_BATCH, STEPS = 512, 64, 32
"""Events of a step: fewer where an epoch would have fewer steps than this."""
MAX_TARGETS = 300_000
"""Events of an epoch, drawn from all; chosen by us, for time."""
MAX_COMPARED = 8_192
"""Items in the loss. Of a larger catalogue so many are drawn for each batch, its targets among them."""
SCALE = 10.0
"""Of the logits, at first."""
LEAST_SHARE = 1e-3
"""Events whose weight in a mean falls below this are not read in the fit."""
MAX_FOR_COMPONENTS = 20_000
"""Vectors from which the principal components are computed, at most."""


@dataclass(frozen=True)
class SpaceEvents:
    """Clicks and purchases as columns, in the order of time.

    Attributes
    ----------
    user, item : (n,) int64
        Indices.
    is_purchase : (n,) bool
    """

    user: Ints
    item: Ints
    is_purchase: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.item)

    def __getitem__(self, indices: slice | Ints) -> SpaceEvents:
        return SpaceEvents(self.user[indices], self.item[indices], self.is_purchase[indices])


class SpaceCase(NamedTuple):
    """A user before a list, and what they chose from it.

    Attributes
    ----------
    history : (n,) int64
        Indices of the items of the user's events, newest first; n >= 1.
    is_purchase : (n,) bool
        Of the same events.
    targets : sequence of int
        Indices of the relevant items; at least one. None is in the history.
    """

    history: Ints
    is_purchase: npt.NDArray[np.bool_]
    targets: Sequence[int]


class FitState(NamedTuple):
    """What `AdapterFit` has learnt at a moment."""

    learnt: list[Tensor]
    optimiser: dict[str, Any]


class AdapterFit:
    """An adapter in training.

    Parameters
    ----------
    vectors : (items, text dim) float32
        Of the items' texts, unit length.
    purchase_weight : float
        Of a purchase in a history, in clicks.
    seed : int
    """

    def __init__(self, vectors: Vector, purchase_weight: float, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        mean = vectors.mean(axis=0)
        self._centred = torch.from_numpy(vectors - mean)
        self._start = _components(self._centred, min(DIM, *vectors.shape), self._random)
        self._frozen_parts = mean, purchase_weight
        shape = self._start.shape
        self._items = nn.Parameter(torch.zeros(shape))
        self._queries = nn.Parameter(torch.zeros(len(DECAYS), *shape))
        self._shares = nn.Parameter(torch.full((len(DECAYS), 1, 1), 1 / len(DECAYS)))
        self._log_scale = nn.Parameter(torch.tensor(SCALE).log())
        self._popularity = nn.Parameter(torch.tensor(1.0))
        maps, logits = [self._items, self._queries], [self._log_scale, self._popularity]
        self._learnt = [*maps, *logits, self._shares]
        groups = [
            {"params": maps, "weight_decay": WEIGHT_DECAY},
            {"params": logits, "weight_decay": 0.0},
            {"params": [self._shares], "weight_decay": 0.0, "lr": FAST_RATE},
        ]
        self._optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE)

    def epoch(
        self, events: SpaceEvents, begin: int = 0, deadline: float = float("inf"), progress: Progress = silent
    ) -> bool:
        """Learn from each event from index `begin` on once; the earlier ones are only history.

        Parameters
        ----------
        events : SpaceEvents
        begin : int
        deadline : float
            When to stop, in seconds of `time.monotonic()`.
        progress : Progress
            In events.

        Returns
        -------
        bool
            Whether it came to the end.
        """
        histories = _Histories(events, self.frozen())
        bias = torch.from_numpy(np.log(0.5 + np.bincount(events.item, minlength=len(self._centred)))).float()
        targets = self._random.permutation(histories.targets(begin))[:MAX_TARGETS]
        size = max(LEAST_BATCH, min(BATCH, len(targets) // STEPS))
        for done in range(0, len(targets), size):
            if time.monotonic() > deadline:
                return False
            self._step(histories, targets[done : done + size], bias)
            progress(done, len(targets))
        return True

    def _step(self, histories: _Histories, targets: Ints, bias: Tensor) -> None:
        items, labels = self._compared(histories.item[targets])
        placed = functional.normalize(self._centred[items] @ (self._start + self._items), dim=1)
        means = torch.stack(
            [functional.embedding_bag(rows, self._centred, begins, mode="sum", per_sample_weights=shares)
             for rows, begins, shares in histories.means(targets)]
        )  # fmt: skip
        queries = torch.einsum("kbt,ktd->bd", means, self._queries + self._shares * self._start)
        logits = self._log_scale.exp() * (queries @ placed.T) + self._popularity * bias[items]
        self._optimiser.zero_grad()
        functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()

    def _compared(self, targets: Ints) -> tuple[Tensor, Tensor]:
        """The items of the loss, and the index of each target among them."""
        items = len(self._centred)
        if items <= MAX_COMPARED:
            return torch.arange(items), torch.from_numpy(targets)
        drawn = np.union1d(targets, self._random.choice(items, MAX_COMPARED - len(targets), replace=False))
        return torch.from_numpy(drawn), torch.from_numpy(np.searchsorted(drawn, targets))

    def state(self) -> FitState:
        """A copy of what is learnt so far."""
        return FitState([one.detach().clone() for one in self._learnt], copy.deepcopy(self._optimiser.state_dict()))

    def restore(self, state: FitState) -> None:
        """Go back to a state."""
        with torch.no_grad():
            for now, then in zip(self._learnt, state.learnt, strict=True):
                now.copy_(then)
        self._optimiser.load_state_dict(state.optimiser)

    def frozen(self) -> Adapter:
        """A copy without gradients, as it is served."""
        mean, purchase_weight = self._frozen_parts
        with torch.no_grad():
            items = (self._start + self._items).numpy()
            queries = (self._shares * self._start + self._queries).numpy()
            return Adapter(
                mean, items, queries, np.array(DECAYS, np.float32), purchase_weight, float(self._log_scale.exp())
            )


class _Histories:
    """The events of each user in their order, and the means of what came before an event."""

    def __init__(self, events: SpaceEvents, adapter: Adapter) -> None:
        order = np.argsort(events.user, kind="stable")
        user, self.item, self._is_purchase = events.user[order], events.item[order], events.is_purchase[order]
        self._index = order
        first = np.flatnonzero(np.diff(user, prepend=-1))
        lengths = np.diff(np.append(first, len(user)))
        self._position = np.arange(len(user)) - np.repeat(first, lengths)
        self._is_new = np.zeros(len(user), bool)  # lists show what is new to the user
        items = int(events.item.max(initial=0)) + 1
        self._is_new[np.unique(user * items + self.item, return_index=True)[1]] = True
        self._weights = np.where(self._is_purchase, np.float32(adapter.purchase_weight), np.float32(1))

    def targets(self, begin: int) -> Ints:
        """Positions of what can be learnt: events from this index of the log on, with a history, about a new item."""
        return np.flatnonzero((self._index >= begin) & (self._position > 0) & self._is_new)

    def means(self, targets: Ints) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each decay: the items before the targets, where those of each target begin, and their shares."""
        return [self._mean(targets, decay) for decay in DECAYS]

    def _mean(self, targets: Ints, decay: float) -> tuple[Tensor, Tensor, Tensor]:
        reach = min(MAX_HISTORY, int(np.ceil(decay * np.log(1 / LEAST_SHARE))))
        lengths = np.minimum(self._position[targets], reach)
        begins = np.cumsum(lengths) - lengths
        ranks = np.arange(lengths.sum()) - np.repeat(begins, lengths)
        rows = np.repeat(targets, lengths) - 1 - ranks
        weights = (np.exp(-ranks / decay) * self._weights[rows]).astype(np.float32)
        shares = weights / np.repeat(np.add.reduceat(weights, begins), lengths)
        return torch.from_numpy(self.item[rows]), torch.from_numpy(begins), torch.from_numpy(shares)


def _components(centred: Tensor, dim: int, random: np.random.Generator) -> Tensor:
    """The first principal components, (text dim, dim): products of projections are those of the vectors, nearly."""
    drawn = random.permutation(len(centred))[:MAX_FOR_COMPONENTS]
    some = centred[torch.from_numpy(drawn)]
    _, vectors = torch.linalg.eigh(some.T @ some)
    components: Tensor = vectors.flip(1)[:, :dim].contiguous()
    return components


def recall(adapter: Adapter, vectors: Vector, cases: Sequence[SpaceCase], count: int = 100) -> float:
    """Mean share of the targets among the `count` items that are nearest to the query, but for those of the history."""
    if not cases:
        return 0.0
    placed, found = adapter.place(vectors), 0.0
    for case in cases:
        scores = placed @ adapter.query(vectors[case.history[:MAX_HISTORY]], case.is_purchase)
        scores[case.history] = -np.inf
        targets = scores[list(case.targets)]
        better = (scores > targets[:, None]).sum(axis=1)
        found += float((better < count).mean())
    return found / len(cases)
