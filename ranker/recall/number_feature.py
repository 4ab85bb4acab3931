"""The numbers of items, such as a rating or a weight, as features: each configured attribute is a part of its own.

It proposes no item. How a number counts is up to the head: high values for all, or those near to the user's usual.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from math import lgamma, log, pi
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from encoders.interest import Vector
from encoders.models.source import ModelUnsupported
from ranker.recall.candidates import Proposals
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.item_columns import ItemColumns
from ranker.recall.user_view import UserView

Numbers = npt.NDArray[np.float64]
EXPECTED = "the file that `afterclick train` wrote; train the model again"
_PREFIX, _SUFFIX = "number-", ".json"
FILES = f"{_PREFIX}*{_SUFFIX}"
"""The files of such parts in a model's folder, as a pattern."""
COLUMNS = ("known", "value", "difference", "likely")
"""Whether the item has the number; its rank in the catalogue; that less the mean rank of the user's items; and how much
likelier it is among these than in the catalogue, the base-2 logarithm."""
KNOTS = 65
"""Quantiles that are kept: ranks are exact to about 1%."""
USUAL_SPREAD = 0.3
"""Of the ranks of a user's items, in deviations of the catalogue's; it counts as one item does. Chosen by us: a user
with one item may mean its number, and one with many shows by them how much the number matters."""
_DEVIATION = 12**-0.5
"""Of ranks from 0 to 1."""


class NumberFeature:
    """What one number says about each candidate; see `LearntSource`. Each number is a class of its own.

    A number counts by its rank in the catalogue that the model was trained with, whatever its unit and distribution:
    from -1.7 to 1.7, with a deviation of 1. An item without the number reads 0 in all columns.

    Parameters
    ----------
    knots : (n,) float64
        Quantiles of the catalogue, at equal steps of the rank; ascending, n >= 2.

    Attributes
    ----------
    number : str
        The name of the attribute.
    """

    file: str
    name: str
    columns: ClassVar[tuple[str, ...]]
    number: ClassVar[str]

    def __init__(self, knots: Numbers) -> None:
        self.knots = knots

    @classmethod
    def of(cls, values: Sequence[float]) -> NumberFeature:
        """Return the part for a catalogue with these numbers; there is at least one."""
        return cls(np.quantile(np.array(values, np.float64), np.linspace(0, 1, KNOTS)))

    @classmethod
    def read(cls, path: Path) -> NumberFeature:
        """See `LearntSource`."""
        try:
            knots = np.array(json.loads(path.read_text(encoding="utf-8"))["knots"], np.float64)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelUnsupported(f"{path}: got no quantiles ({error!r}), expected {EXPECTED}") from error
        if knots.ndim != 1 or len(knots) < 2 or not np.isfinite(knots).all() or (np.diff(knots) < 0).any():
            raise ModelUnsupported(f"{path}: got quantiles that do not ascend, expected {EXPECTED}")
        return cls(knots)

    def save(self, path: Path) -> None:
        """See `LearntSource`."""
        path.write_text(json.dumps({"knots": self.knots.tolist()}), encoding="utf-8")

    def enter(self, catalogue: Catalogue) -> Iterator[None]:
        """See `LearntSource`: the catalogue must keep the number.

        Raises
        ------
        ModelUnsupported
        """
        if self.number not in catalogue.number_names:
            raise ModelUnsupported(
                f"{self.file}: got a model that reads the items' number {self.number!r}, which this process does not "
                f"keep; add {self.number} to AFTERCLICK_CANDIDATES__NUMBERS"
            )
        return iter(())

    def find(self, _user: UserView, _limit: int) -> Proposals:
        """Propose nothing."""
        return Proposals(np.empty(0, np.intp))

    def features(self, user: UserView, items: ItemColumns) -> Vector:
        """Return `columns` of each item, (n, 4) float32; see `LearntSource`."""
        catalogue = user.catalogue
        values = self._ranks([catalogue.get(key) for key in items.keys.tolist()])
        usual = self._ranks([catalogue.at(row) for row in np.unique(user.known_history.rows).tolist()])
        usual = usual[np.isfinite(usual)]
        difference = values - (usual.mean() if len(usual) else np.nan)
        columns = np.stack([np.isfinite(values), values, difference, _likely(difference, usual)], axis=1)
        return np.asarray(np.nan_to_num(columns), np.float32)

    def _ranks(self, items: Sequence[CatalogueItem | None]) -> Numbers:
        """The ranks of the items' numbers, (n,); NaN for an item without one. Equal knots share their mean rank."""
        values = np.array([np.nan if item is None else dict(item.numbers).get(self.number, np.nan) for item in items])
        below = np.interp(values, self.knots, np.linspace(0, 1, len(self.knots)))
        above = 1 - np.interp(-values, -self.knots[::-1], np.linspace(0, 1, len(self.knots)))
        return np.asarray(((below + above) / 2 - 0.5) / _DEVIATION)


def _likely(difference: Numbers, usual: Numbers) -> Numbers:
    """How much likelier numbers are to be the user's next one than to be drawn from the catalogue, (n,), base 2.

    Parameters
    ----------
    difference : (n,) float64
        From the mean of the user's; NaN for no number.
    usual : (m,) float64
        The user's.

    Notes
    -----
    The user's next number has Student's t distribution with m + 1 degrees of freedom around their mean, as for a normal
    distribution of unknown mean and variance (Gelman et al., "Bayesian data analysis", 3.2 and 3.3); the variance has
    a prior worth one observation. Ranks in the catalogue are uniform.
    """
    count = len(usual)
    if not count:
        return np.full(len(difference), np.nan)
    freedom = count + 1
    variance = (USUAL_SPREAD**2 + ((usual - usual.mean()) ** 2).sum()) / freedom * (1 + 1 / count)
    peak = lgamma((freedom + 1) / 2) - lgamma(freedom / 2) - log(freedom * pi * variance) / 2
    density = peak - (freedom + 1) / 2 * np.log1p(difference**2 / (freedom * variance))
    return np.asarray((density - log(_DEVIATION)) / log(2))


@cache
def number_feature(number: str) -> type[NumberFeature]:
    """Return the class of the features of an attribute.

    >>> number_feature("rating").file, number_feature("rating").columns[0]
    ('number-rating.json', 'number_rating_known')
    """
    return type(
        f"NumberFeature_{number}",
        (NumberFeature,),
        {
            "number": number,
            "file": f"{_PREFIX}{number}{_SUFFIX}",
            "name": f"number-{number}",
            "columns": tuple(f"number_{number}_{column}" for column in COLUMNS),
        },
    )


def number_of(file: str) -> str:
    """Return the attribute whose part has this file.

    >>> number_of("number-rating.json")
    'rating'
    """
    return file.removeprefix(_PREFIX).removesuffix(_SUFFIX)
