"""The keys of all lists of an installation; `streams.list_keys.list_key` says how they are made.

A record is in the partition of its user, whatever its key hashes to.
"""

from __future__ import annotations

from streams.kafka.client import partition_of
from streams.list_keys import list_key
from streams.settings import PREFIX, Settings, SettingsError


class ListKeys:
    """The keys of all lists of an installation.

    Parameters
    ----------
    settings : Settings
        The declared placements, and the number of partitions.

    Examples
    --------
    >>> from streams.settings import RankerSettings
    >>> keys = ListKeys(Settings(ranker=RankerSettings(placements=("cart", "home"))))
    >>> keys.of("a"), keys.of("a", "cart"), keys.of("a:cart"), keys.of("a:cart", "home"), keys.of("a:b")
    ('a', 'a:cart', 'a:cart:', 'a:cart:home', 'a:b')
    >>> keys.all_of("a")
    ['a', 'a:cart', 'a:home']
    """

    def __init__(self, settings: Settings) -> None:
        self._placements = settings.ranker.placements
        self._partitions = settings.kafka.partitions

    def of(self, user_id: str, placement: str | None = None) -> str:
        """Return the key of a user's list.

        Raises
        ------
        SettingsError
            The placement is not declared.
        """
        if placement is not None and placement not in self._placements:
            raise SettingsError(undeclared(placement, self._placements))
        return list_key(user_id, placement, self._placements)

    def all_of(self, user_id: str) -> list[str]:
        """Return the keys of all lists that a user may have."""
        return [self.of(user_id, placement) for placement in (None, *self._placements)]

    def partition(self, user_id: str) -> int:
        """Return the partition of all lists of a user."""
        return partition_of(user_id.encode(), self._partitions)


def undeclared(placement: str, declared: tuple[str, ...]) -> str:
    """Say what to do about a placement that is not declared."""
    return (
        f"placement: got {placement!r}, expected one that is declared ({', '.join(declared) or 'none is'}); add it to "
        f"{PREFIX}RANKER__PLACEMENTS"
    )
