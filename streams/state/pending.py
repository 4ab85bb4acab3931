"""The effects of applied events that the next flush gets out. Knows neither users nor Kafka's client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streams.kafka.outgoing import Outgoing
from streams.state.due_requests import DueRequest


@dataclass
class Pending:
    """What was applied since the last flush began.

    Attributes
    ----------
    events : list of faust.Event
        The flush itself acknowledges these.
    messages : list of Outgoing
        Dead letters, routed events and tombstones; the flush produces them with the states.
    requests : dict of str to DueRequest
        By user: the rank request that the user needs, with the events that it answers.
    """

    events: list[Any] = field(default_factory=list)
    messages: list[Outgoing] = field(default_factory=list)
    requests: dict[str, DueRequest] = field(default_factory=dict)

    def request(self, user_id: str) -> DueRequest:
        """Give the user's pending rank request; a new one if there is none."""
        return self.requests.setdefault(user_id, DueRequest())

    def take(self) -> Pending:
        """Move the content into a new object, for one flush. What is applied from now on belongs to the next flush."""
        content = Pending(self.events, self.messages, self.requests)
        self.clear()
        return content

    def clear(self) -> None:
        """Discard the content."""
        self.events, self.messages, self.requests = [], [], {}
