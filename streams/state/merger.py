"""Merges on Kafka: a visitor's state moves to the user who the visitor turned out to be, exactly once.

The two users may live in different partitions, and so with different workers. The steps of a merge:

1. The visitor's worker writes a link into the visitor's record. Once the link is durable, it asks the user whether the
   merge closes a cycle. Whoever was merged, or asks too, passes the question on. A user who was not, answers.
2. With the answer the link is agreed, and the record changes no more: what arrives for the visitor waits. Once that is
   durable, the worker sends the state to the user, and then erases it here. Only the link is left, and what arrives for
   the visitor is sent after the state.
3. The user's worker adds the state to the user's own, and notes the merge in the user's memory of events.

If the question comes back to the visitor, the merge closes a cycle and is refused. That finds every cycle: of merges
that would form one, the last that asked finds all others written.

A worker may die between any two steps. Kafka delivers the merge, the answer or the state again then, and the link says
where to go on: the same state is sent once more. Step 3 takes a state in once, and recognises events that are in it.
So no event is lost or counted twice, in whatever order merges and events arrive.

To forget a user is to forget all who were merged into the user, and the one into whom the user was: each is told before
the user's own record is erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from faust.types import EventT

from encoders.event_time import milliseconds
from streams import metrics
from streams.contracts import Forget, UserMerge
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import OUR_REQUEST
from streams.kafka.reject import rejected
from streams.kafka.topics import changelog_name
from streams.receive.message import BadMessage, Message
from streams.settings import Settings
from streams.state import merge_metrics
from streams.state.due_requests import DueRequests
from streams.state.event_memory import seen_merge
from streams.state.event_receiver import Change
from streams.state.event_router import EventRouter
from streams.state.pending import Pending
from streams.state.tier import StateTier
from streams.state.transfer import MergeStep, Question, Transfer, UserState
from streams.state.user_record import Link

VISITORS_AT_ONCE = 1_000
"""Ids in one message, at most 256 KB; chosen by us."""
_ADVICE = "a visitor is one user: give a new visitor a new id, and write to `forget` what has to go"


class Merger:
    """Applies merges, and what comes for users who were merged.

    Parameters
    ----------
    settings : Settings
        Of the worker.
    tier : StateTier
        Holds the users.
    router : EventRouter
        Makes the messages to other users.
    requests : DueRequests
        Loses the requests of users who were merged.
    pending : Pending
        Gets all effects.
    """

    def __init__(
        self, settings: Settings, tier: StateTier, router: EventRouter, requests: DueRequests, pending: Pending
    ) -> None:
        self._settings = settings
        self._owner = changelog_name(settings)
        self._tier = tier
        self._router = router
        self._requests = requests
        self._pending = pending
        self._fresh: dict[str, EventT[Any]] = {}  # users whose links the next flush makes durable, and why
        self._waiting: list[Change] = []  # for those of them whose links are agreed

    def is_busy(self) -> bool:
        """Whether there is something to do after the flush, without a new event."""
        return bool(self._fresh)

    def go_on(self) -> list[Change]:
        """Go on with all links that the last flush made durable. Returns what came for agreed ones meanwhile."""
        for user_id, event in self._fresh.items():
            link = self._tier.users.get(user_id).link
            if link is not None:  # else the user was forgotten in the same flush
                (self._ask if link.stage == "asked" else self._move)(user_id, link)
            self._pending.events.append(event)
        waiting = self._waiting
        self.clear()
        return waiting

    def clear(self) -> None:
        """Discard what waits: none of it was acknowledged."""
        self._fresh, self._waiting = {}, []

    def begin(self, user_id: str, change: Change, merge: UserMerge) -> None:
        """Step 1, unless the merge is repeated or refused."""
        into, merged_ms, users = merge.into_user_id, milliseconds(merge.timestamp), self._tier.users
        link = users.get(user_id).link
        if link is not None and link.into == into:
            if link.stage == "asked" and user_id not in self._fresh:  # the worker that asked may have died before
                self._ask(user_id, link)
            self._done(change, "duplicate")
        elif link is not None:
            self._refuse(change, f"got {into!r}, expected {link.into!r}, the user of an earlier merge; {_ADVICE}")
        elif merged_ms <= users.forgotten_until(user_id):
            if merged_ms <= (asked_ms := users.asked_to_forget(user_id)):  # both were one person by then
                self._pending.first.append(self._router.forgetting(into, asked_ms))
            self._done(change, "forgotten")
        elif users.visitors.has(user_id, into):
            self._refuse(change, _cycle(user_id, into))
        elif users.memory(user_id).look_up(seen_merge(user_id, into, merged_ms)) == "known":
            self._refuse(change, f"got {into!r}, refused before, expected another time; send a right merge anew")
        else:
            users.set_link(user_id, Link(into, merged_ms))
            self._fresh[user_id] = change.event
            metrics.events.labels(change.message.topic, "accepted").inc()

    def answer(self, user_id: str, change: Change, question: Question) -> None:
        """Pass a question on or answer it, or go on with step 2 or refuse the merge, if it is the user's own."""
        merge, link = question.merge, self._tier.users.get(user_id).link
        if user_id != merge.from_user_id:
            to, is_answered = (merge.from_user_id, True) if link is None else (link.into, False)
            passed_on = msgspec.structs.replace(question, user_id=to, is_answered=is_answered)
            self._pending.messages.append(self._router.between_workers(passed_on, merge.timestamp_ms))
        elif link == Link(merge.into_user_id, merge.timestamp_ms, "asked"):
            if question.is_answered:
                self._tier.users.set_link(user_id, replace(link, stage="agreed"))
                self._fresh[user_id] = change.event
                self._pending.events += self._pending.forget(user_id) + self._requests.forget(user_id)
                return
            self._refuse_asked(user_id, change, merge)
        self._pending.events.append(change.event)

    def pass_on(self, user_id: str, changes: Sequence[Change]) -> list[Change]:
        """Send on what came for a user who has a link. Returns what is to be applied to the user's own record."""
        link = self._tier.users.get(user_id).link
        if link is None:
            return list(changes)
        if link.stage == "agreed":
            if user_id in self._fresh:
                self._waiting += changes
                return []
            link = self._move(user_id, link)
        return [change for change in changes if self._passes_on(user_id, link, change)]

    def take_in(self, user_id: str, moved: Transfer) -> bool:
        """Step 3, for a user who was not merged. Returns whether the user's state has changed."""
        users, visitor_id = self._tier.users, moved.visitor_id
        until_ms = users.forgotten_until(user_id)
        if max(step.timestamp_ms for step in moved.path) <= until_ms:  # they were one person who asked to be forgotten
            self.tell([visitor_id, *moved.visitors], until_ms)
            merge_metrics.states_taken_in.labels("forgotten").inc()
            return False
        version, is_new = users.get(user_id).interest.version, False
        if moved.state is not None:
            merge = seen_merge(visitor_id, moved.path[0].into_user_id, moved.path[0].timestamp_ms)
            is_new = self._tier.take_in(user_id, visitor_id, merge, moved.state)
            merge_metrics.states_taken_in.labels("joined" if is_new else "repeated").inc()
        users.visitors.add(user_id, [*moved.visitors, visitor_id])
        return is_new and users.get(user_id).interest.version > version

    def without_strangers(self, user_id: str, changes: Sequence[Change]) -> list[Change]:
        """Send back the events of visitors of whom the user's record does not know. Returns the others.

        The user was forgotten after the visitor's worker sent the event, or the visitor's state was lost.
        """
        visitors = {change.decoded.user_id for change in changes} - {user_id}
        strangers = {visitor for visitor in visitors if not self._tier.users.visitors.has(user_id, visitor)}
        for change in changes:
            if (named := change.decoded.user_id) in strangers:
                self._pending.messages.append(self._router.addressed(change, named, is_return=True))
                self._pending.events.append(change.event)
                merge_metrics.events_returned.inc()
        return [change for change in changes if change.decoded.user_id not in strangers]

    def tell(self, visitor_ids: Iterable[str], time_ms: int) -> None:
        """Have users forgotten who were merged into one who was, before that one's record is erased."""
        self._pending.first += [self._router.forgetting(one, time_ms, is_told=True) for one in visitor_ids]

    def _ask(self, user_id: str, link: Link) -> None:
        """Step 1 of a durable link: ask whether it closes a cycle."""
        question = Question(self._owner, MergeStep(link.merged_ms, user_id, link.into), link.into)
        self._pending.messages.append(self._router.between_workers(question, link.merged_ms))

    def _move(self, user_id: str, link: Link) -> Link:
        """Step 2 of a durable, agreed link: send the state away, erase it here, and the lists everywhere."""
        users = self._tier.users
        visitors = list(users.visitors.of(user_id))
        for begin in range(0, len(visitors), VISITORS_AT_ONCE):
            self._send_first(user_id, link, visitors[begin : begin + VISITORS_AT_ONCE])
        self._send_first(user_id, link, [], users.state_of(user_id))
        self._pending.first.append(tombstone(self._settings, user_id))
        link = replace(link, stage="moved")
        users.set_link(user_id, link)
        return link

    def _send_first(self, user_id: str, link: Link, visitors: list[str], state: UserState | None = None) -> None:
        moved = Transfer(self._owner, [MergeStep(link.merged_ms, user_id, link.into)], visitors, state)
        self._pending.first.append(self._router.between_workers(moved, link.merged_ms))

    def _passes_on(self, user_id: str, link: Link, change: Change) -> bool:
        """Deal with what came for a user who has a link. Returns whether it is for the user's own record too."""
        decoded = change.decoded
        if isinstance(decoded, Forget):
            if not change.is_told and milliseconds(decoded.timestamp) > self._tier.users.asked_to_forget(user_id):
                self._pending.first.append(self._router.addressed(change, link.into))
            return True
        if link.stage == "asked" or isinstance(decoded, (UserMerge, Question)):
            return True
        if isinstance(decoded, Transfer):
            path = [*decoded.path, MergeStep(link.merged_ms, user_id, link.into)]
            message = self._router.between_workers(msgspec.structs.replace(decoded, path=path), link.merged_ms)
            merge_metrics.states_taken_in.labels("passed-on").inc(decoded.state is not None)
        else:
            if change.is_returned:  # the other user has to know this one first
                self._send_first(user_id, link, [])
            message = self._router.addressed(change, link.into)
            merge_metrics.events_passed_on.labels(change.message.topic).inc()
        self._pending.messages.append(message)
        self._pending.events.append(change.event)
        return False

    def _refuse_asked(self, user_id: str, change: Change, merge: MergeStep) -> None:
        """Refuse a merge whose question came back, for good: its state is where it was."""
        into, users = merge.into_user_id, self._tier.users
        users.set_link(user_id, None)
        memory = users.memory(user_id)
        memory.add(seen_merge(user_id, into, merge.timestamp_ms))
        users.accept(user_id, memory, users.get(user_id).interest)
        value = UserMerge(from_user_id=user_id, into_user_id=into, timestamp=merge.timestamp_ms)
        message = replace(change.message, key=user_id.encode(), value=msgspec.json.encode(value))
        self._pending.first.append(self._letter(message, _cycle(user_id, into)))
        metrics.events.labels(message.topic, "rejected").inc()

    def _done(self, change: Change, outcome: str) -> None:
        metrics.events.labels(change.message.topic, outcome).inc()
        self._pending.events.append(change.event)

    def _refuse(self, change: Change, text: str) -> None:
        self._pending.messages.append(self._letter(change.message, text))
        self._done(change, "rejected")

    def _letter(self, message: Message, text: str) -> Outgoing:
        error = BadMessage("merge", f"merges: into_user_id: {text}", "a merge against an earlier one")
        return rejected(self._settings, message, error)


def _cycle(user_id: str, into: str) -> str:
    return f"got {into!r}, who is merged into {user_id!r}, expected no cycle; {_ADVICE}"


def tombstone(settings: Settings, user_id: str) -> Outgoing:
    """Make the message that has a user's lists and requests deleted."""
    return Outgoing(settings.topic("rank-requests"), user_id.encode(), None, headers=OUR_REQUEST)
