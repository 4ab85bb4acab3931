"""A source of candidates where people come back to what they know: songs, not sofas. Knows no transport."""

from __future__ import annotations

from ranker.recall.candidates import Proposals
from ranker.recall.priorities import favourites
from ranker.recall.user_view import UserView


class Again:
    """What the user chose often and lately."""

    name = "again"

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        return Proposals(user.shelf.recommendable(favourites(user)[0].tolist())[1][:limit])
