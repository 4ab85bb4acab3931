"""Exploration: some places of a list go to an item from further below, so that clicks tell what the model cannot know.

    greedy list -> blocks of places -> at most one explored place in each -> the probability of what each place shows

Every probability is exact, because a block has few outcomes: the place that is explored, and the item that it gets.
Logged with the list, these propensities let `ranker.evaluation.off_policy` estimate what another ranker would have got.

Thompson sampling chooses the item (Thompson 1933; Chapelle and Li, "An empirical evaluation of Thompson sampling",
NIPS 2011), and not LinUCB, which is deterministic: its propensities are 0 and 1, and 0 tells nothing of other rankers.
Knows no model: scores that are drawn from the posterior of a model come as an array.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Draws = NDArray[np.float32]
"""(draws, candidates): in each row the scores of all candidates under one draw of the model's weights."""
Probabilities = NDArray[np.float64]


class ExploredList(NamedTuple):
    """A list after exploration.

    Attributes
    ----------
    indices : list of int
        Of the candidates, rank 1 first.
    propensities : list of float
        The probability with which each place shows what it shows, over all draws of chance for this request.
    moved : int
        How many places show another item than without exploration.
    """

    indices: list[int]
    propensities: list[float]
    moved: int


def seed_of(*names: object) -> int:
    """Return the seed of a list: the same names give the same list, in every process.

    >>> seed_of("u1", None, 7) == seed_of("u1", None, 7) != seed_of("u1", None, 8)
    True
    """
    return int.from_bytes(hashlib.blake2b(repr(names).encode(), digest_size=8, person=b"explore").digest(), "big")


def first_explored(size: int, share: float, max_loss: float) -> int:
    """Return the first place of a list that may be explored, from 1: never 1, and `size + 1` if none may be.

    An explored place loses at most its own clicks: its item makes room, and an item that nobody may want takes it.
    Under the position-based click model (Craswell et al. 2008) place k has a share of the list's clicks of at most its
    share of the examination, `1 / log2(k + 1)`, if the model ranks right on the whole. So the expected loss is at most
    `share * sum of the examination of the explored places`, as a share of the list's: places are left out from the top
    until that is no more than `max_loss`.

    Parameters
    ----------
    size : int
        Places of the list.
    share : float
        Probability with which a place is explored.
    max_loss : float
        The largest expected loss, as a share of the list's clicks.

    Examples
    --------
    >>> first_explored(20, 0.05, 0.05), first_explored(20, 0.2, 0.05), first_explored(20, 0.2, 0.001)
    (2, 14, 21)
    """
    if size < 1:
        return size + 1
    examination = 1 / np.log2(np.arange(2, size + 2))
    below = np.cumsum(examination[::-1])[::-1]  # of each place and all below it
    allowed = np.flatnonzero(share * below <= max_loss * examination.sum() * (1 + 1e-9)) + 1
    return max(2, int(allowed[0])) if len(allowed) else size + 1


def explore(
    taken: Sequence[int],
    outside: Sequence[int],
    fixed: Collection[int],
    draws: Draws,
    share: float,
    max_loss: float,
    seed: int,
) -> ExploredList:
    """Let chance give some places of a list to other items.

    Parameters
    ----------
    taken : sequence of int
        Indices of the candidates in the list, rank 1 first.
    outside : sequence of int
        Indices of further candidates that may come into the list, best first.
    fixed : collection of int
        Indices in the list that keep their places, such as pinned ones.
    draws : (draws, candidates) float32
    share : float
        Probability with which a place is explored, above 0 and at most 0.5.
    max_loss : float
        See `first_explored`.
    seed : int
        Equal seeds and arguments give equal lists.
    """
    indices, propensities, moved = list(taken), [1.0] * len(taken), 0
    random = np.random.default_rng(seed)
    for block in blocks(taken, outside, fixed, draws, share, max_loss):
        items, shown = block.after(*_outcome(block.wins, share, random)), block.probabilities(share)
        for row, (place, item) in enumerate(zip(block.places, items, strict=True)):
            moved += item != indices[place]
            indices[place], propensities[place] = item, float(shown[row, block.items.index(item)])
    return ExploredList(indices, propensities, moved)


class PlaceBlock(NamedTuple):
    """Places of a list of which at most one is explored at a time.

    Attributes
    ----------
    places : sequence of int
        From 0, top first.
    items : list of int
        What can be shown there: the items of the places, then others.
    wins : (places, items) float64
        The probability with which each place gets each item, if it is the one that is explored.
    """

    places: Sequence[int]
    items: list[int]
    wins: Probabilities

    def after(self, at: int, item: int) -> list[int]:
        """Return the items of the places if one place gets an item, both by their indices here.

        An item of the block changes places with it; any other takes the place. Equal indices change nothing.
        """
        shown = self.items[: len(self.places)]
        if item < len(shown):
            shown[item] = shown[at]
        shown[at] = self.items[item]
        return shown

    def probabilities(self, share: float) -> Probabilities:
        """Return the probability with which each place shows each item, (places, items); see `after`."""
        count = len(self.places)
        shown = share * self.wins
        shown[:, :count] += share * self.wins[:, :count].T
        shown[np.arange(count), np.arange(count)] = 1 - shown.sum(1)
        return shown


def blocks(
    taken: Sequence[int], outside: Sequence[int], fixed: Collection[int], draws: Draws, share: float, max_loss: float
) -> Iterator[PlaceBlock]:
    """Yield the parts of a list in which the chances of all places sum to 1 at most; see `explore`.

    Each part has its own share of the items outside the list. So no item can come into two of them.
    """
    first = first_explored(len(taken), share, max_loss)
    places = [place for place in range(first - 1, len(taken)) if taken[place] not in fixed]
    length = int(1 / share + 1e-9)
    count = -(-len(places) // length)
    for number in range(count):
        of_block = places[number * length : (number + 1) * length]
        items = [*(taken[place] for place in of_block), *outside[number::count]]
        yield PlaceBlock(of_block, items, _wins(draws[:, items], len(of_block)))


def _wins(draws: Draws, places: int) -> Probabilities:
    """How often each item wins an explored place: among what is below it, in the draws and one uniform draw.

    The uniform draw lets every item have a chance, without which nothing could be estimated of it.
    """
    draws = np.where(np.isfinite(draws), draws, -np.inf)
    count, items = draws.shape
    wins = np.zeros((places, items))
    for place in range(min(places, items - 1)):
        below = draws[:, place + 1 :]
        won = np.bincount(below.argmax(1), minlength=below.shape[1])
        wins[place, place + 1 :] = (won + 1 / below.shape[1]) / (count + 1)
    return wins


def _outcome(wins: Probabilities, share: float, random: np.random.Generator) -> tuple[int, int]:
    """Which place is explored, and the item that it gets; the same number twice where nothing changes."""
    at = int(random.random() / share)
    chance = random.random()
    if at >= len(wins) or not wins[at].any():
        return 0, 0
    return at, int(np.searchsorted(np.cumsum(wins[at]), chance * wins[at].sum(), "right"))
