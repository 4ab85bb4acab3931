"""The effects of applied events that the next flush gets out. Knows neither users nor Kafka's client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streams.kafka.outgoing import Outgoing
from streams.state.due_requests import DueRequest, IncompleteRequest, split_by_user


@dataclass
class Pending:
    """What was applied since the last flush began.

    Attributes
    ----------
    events : list of faust.Event
        The flush itself acknowledges these.
    messages : list of Outgoing
        Dead letters, routed events and tombstones; the flush produces them with the states.
    first : list of Outgoing
        Messages without which the changed states would lose something; the flush produces them before the states.
    requests : dict of str to DueRequest
        By user: the rank request that the user needs, with the events that it answers.
    incomplete : list of IncompleteRequest
        Requests of an upstream recommender that are to be completed.
    anew : set of str
        Users whose request is to be made once more, so that the model ranks their list.
    """

    events: list[Any] = field(default_factory=list)
    messages: list[Outgoing] = field(default_factory=list)
    first: list[Outgoing] = field(default_factory=list)
    requests: dict[str, DueRequest] = field(default_factory=dict)
    incomplete: list[IncompleteRequest] = field(default_factory=list)
    anew: set[str] = field(default_factory=set)

    def request(self, user_id: str) -> DueRequest:
        """Give the user's pending rank request; a new one if there is none."""
        return self.requests.setdefault(user_id, DueRequest())

    def forget(self, user_id: str) -> list[Any]:
        """Remove the user's requests. Returns the events that they would have answered."""
        events = self.requests.pop(user_id, DueRequest()).events
        self.anew.discard(user_id)
        dropped, self.incomplete = split_by_user(self.incomplete, user_id)
        return [*events, *(one.event for one in dropped)]

    def take(self) -> Pending:
        """Move the content into a new object, for one flush. What is applied from now on belongs to the next flush."""
        content = Pending(self.events, self.messages, self.first, self.requests, self.incomplete, self.anew)
        self.clear()
        return content

    def clear(self) -> None:
        """Discard the content."""
        self.events, self.messages, self.first = [], [], []
        self.requests, self.incomplete, self.anew = {}, [], set()
