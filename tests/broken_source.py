"""A candidate source that raises an error, for tests of what a worker does then."""

from __future__ import annotations

from ranker.recall.candidates import Proposals
from ranker.recall.user_view import UserView


class BrokenSource:
    """A source with a bug."""

    name = "broken"

    def find(self, user: UserView, limit: int) -> Proposals:
        raise ZeroDivisionError("a bug of ours")
