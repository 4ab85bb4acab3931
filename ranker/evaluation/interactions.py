"""A log of users' events in columns: ten million events are 0.4 GB, and reading one of them makes an object.

Knows no protocol and no file.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from encoders.events.types import FULL
from ranker.evaluation.signs import Sign

NONE = -1
"""The code of a basket or list that the event does not name."""
ITERATED = 65_536
"""Events that are taken out of the columns at a time."""
Codes = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]


class Interaction(NamedTuple):
    """What a user did with an item.

    Attributes
    ----------
    user, item : str
    time_ms : int
        Milliseconds since the epoch.
    kind : str
        See `encoders.events.types`.
    basket : str or None
        The invoice or session that it belongs to; None where the log names none.
    list_id : str or None
        The shown list that it names, for the protocol `impressions`.
    strength : int
        See `encoders.events.entries.Event`.
    """

    user: str
    item: str
    time_ms: int
    kind: str = "click"
    basket: str | None = None
    list_id: str | None = None
    strength: int = FULL


class Names(NamedTuple):
    """The ids behind the codes of a log, each once: id of code 0, of code 1, and so on."""

    users: list[str]
    items: list[str]
    baskets: list[str]
    lists: list[str]
    types: list[str]


class Interactions(Sequence[Interaction]):
    """Events in columns, n of them.

    Parameters
    ----------
    names : Names
        Parts of one log share them.
    user, item, basket, list_id : (n,) int32
        Codes: indices in `names`; `NONE` for no basket and no list.
    time_ms : (n,) int64
        Milliseconds since the epoch.
    type : (n,) int32
        Code of its type.
    strength : (n,) int8
        See `encoders.events.entries.Event`.
    signs : sequence of Sign
        What else the users did, in the order of time. Parts of one log share them.
    contexts : mapping of (str, int) to mapping of str to str
        By user and time: where an event happened, in words. Parts of one log share them.
    """

    def __init__(
        self,
        names: Names,
        user: Codes,
        item: Codes,
        time_ms: Indices,
        basket: Codes,
        list_id: Codes,
        type_: Codes,
        strength: npt.NDArray[np.int8],
        signs: Sequence[Sign] = (),
        contexts: Mapping[tuple[str, int], Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        self.names, self.signs, self.contexts = names, signs, contexts
        self.user, self.item, self.time_ms = user, item, time_ms
        self.basket, self.list_id, self.type, self.strength = basket, list_id, type_, strength

    @staticmethod
    def of(events: Iterable[Interaction]) -> Interactions:
        """Bring events into columns, in their order; what is in columns stays as it is."""
        if isinstance(events, Interactions):
            return events
        columns = Columns()
        for event in events:
            columns.append(*event)
        return columns.interactions()

    def __len__(self) -> int:
        return len(self.time_ms)

    @overload
    def __getitem__(self, index: int) -> Interaction: ...

    @overload
    def __getitem__(self, index: slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Interactions: ...

    def __getitem__(
        self, index: int | slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]
    ) -> Interaction | Interactions:
        if isinstance(index, slice | np.ndarray):
            user, item, time_ms, basket_of, list_of, type_, strength = self._columns
            return Interactions(
                self.names,
                user[index],
                item[index],
                time_ms[index],
                basket_of[index],
                list_of[index],
                type_[index],
                strength[index],
                self.signs,
                self.contexts,
            )
        names, basket, list_id = self.names, self.basket[index], self.list_id[index]
        return Interaction(
            names.users[self.user[index]],
            names.items[self.item[index]],
            int(self.time_ms[index]),
            names.types[self.type[index]],
            None if basket == NONE else names.baskets[basket],
            None if list_id == NONE else names.lists[list_id],
            int(self.strength[index]),
        )

    def __iter__(self) -> Iterator[Interaction]:
        users, items, baskets, lists, types = self.names
        for begin in range(0, len(self), ITERATED):
            rows = zip(*(column[begin : begin + ITERATED].tolist() for column in self._columns), strict=True)
            for user, item, time_ms, basket, list_id, type_, strength in rows:
                yield Interaction(
                    users[user],
                    items[item],
                    time_ms,
                    types[type_],
                    None if basket == NONE else baskets[basket],
                    None if list_id == NONE else lists[list_id],
                    strength,
                )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return False
        return all(ours == theirs for ours, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def is_purchase(self) -> npt.NDArray[np.bool_]:
        """Which events are purchases, (n,) bool."""
        types = self.names.types
        bought: npt.NDArray[np.bool_] = self.type == (types.index("purchase") if "purchase" in types else NONE)
        return bought

    @property
    def has_signs(self) -> bool:
        """Whether the users did more than look at items, buy them and be shown lists, or the log says where."""
        return (
            any(sign.event for sign in self.signs)
            or bool(self.contexts)
            or not {"click", "view", "purchase"}.issuperset(self.names.types)
        )

    def weights(self, by_type: Mapping[str, float]) -> npt.NDArray[np.float64]:
        """Return what each event weighs, (n,) float64, for the weights of the types; 0 for a type without one."""
        of_types = np.array([by_type.get(type_, 0.0) for type_ in self.names.types])
        return of_types[self.type] * self.strength / FULL

    @cached_property
    def by_user(self) -> tuple[Indices, Indices]:
        """Indices of the events by user, each user's in their order, and where each user's begin: (users + 1,)."""
        order = np.argsort(self.user, kind="stable")
        return order, np.searchsorted(self.user[order], np.arange(len(self.names.users) + 1))

    @cached_property
    def user_codes(self) -> dict[str, int]:
        """The code of each user."""
        return {user: code for code, user in enumerate(self.names.users)}

    def digest(self) -> str:
        """SHA-256 of the content, in its order."""
        hashed = hashlib.sha256()
        for names in self.names:
            hashed.update("\0".join(names).encode("utf-8", "surrogatepass") + b"\1")
        for column in self._columns:
            hashed.update(np.ascontiguousarray(column).tobytes())
        hashed.update(repr((self.signs, self.contexts)).encode("utf-8", "surrogatepass"))
        return hashed.hexdigest()

    @property
    def _columns(self) -> tuple[Codes, Codes, Indices, Codes, Codes, Codes, npt.NDArray[np.int8]]:
        return self.user, self.item, self.time_ms, self.basket, self.list_id, self.type, self.strength


class Columns:
    """Events on their way into columns, one after the other."""

    def __init__(self) -> None:
        self._codes: tuple[dict[str, int], ...] = ({}, {}, {}, {}, {})
        self._user, self._item, self._basket, self._list = array("i"), array("i"), array("i"), array("i")
        self._time_ms, self._type, self._strength = array("q"), array("i"), array("b")

    def append(
        self,
        user: str,
        item: str,
        time_ms: int,
        kind: str = "click",
        basket: str | None = None,
        list_id: str | None = None,
        strength: int = FULL,
    ) -> None:
        """Add an event; the arguments are the fields of `Interaction`."""
        users, items, baskets, lists, types = self._codes
        self._user.append(users.setdefault(user, len(users)))
        self._item.append(items.setdefault(item, len(items)))
        self._time_ms.append(time_ms)
        self._type.append(types.setdefault(kind, len(types)))
        self._strength.append(strength)
        self._basket.append(NONE if basket is None else baskets.setdefault(basket, len(baskets)))
        self._list.append(NONE if list_id is None else lists.setdefault(list_id, len(lists)))

    def interactions(self) -> Interactions:
        """All events so far."""
        return Interactions(
            Names(*map(list, self._codes)),
            np.array(self._user, np.int32),
            np.array(self._item, np.int32),
            np.array(self._time_ms, np.int64),
            np.array(self._basket, np.int32),
            np.array(self._list, np.int32),
            np.array(self._type, np.int32),
            np.array(self._strength, np.int8),
        )
