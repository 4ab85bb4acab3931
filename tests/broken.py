"""A candidate source with a bug, to see a worker meet one."""

from __future__ import annotations

from ranker.recall.candidates import Proposals, UserView


class Source:
    name = "broken"

    def find(self, user: UserView, limit: int) -> Proposals:
        raise ZeroDivisionError("a bug of ours")
