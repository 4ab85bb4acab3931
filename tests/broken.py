"""A candidate source with a bug, to see a worker meet one."""

from __future__ import annotations

from collections.abc import Sequence

from ranker.candidates import Found, Shopper


class Source:
    name = "broken"

    def find(self, shopper: Shopper, limit: int) -> Sequence[Found]:
        raise ZeroDivisionError("a bug of ours")
