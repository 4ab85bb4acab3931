"""A candidate source with a bug, to see a worker meet one."""

from __future__ import annotations

from ranker.recall.candidates import Found, Shopper


class Source:
    name = "broken"

    def find(self, shopper: Shopper, limit: int) -> Found:
        raise ZeroDivisionError("a bug of ours")
