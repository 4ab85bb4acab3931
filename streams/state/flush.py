"""Make applied events durable, and acknowledge them: one state per user, however many events changed it.

A worker repeats these steps. From the intake until it is acknowledged an event is in `InOrder` too, which commits
offsets in order.

0. Take: `Intake.take` queues the event. It is in `Intake`.
1. Apply: `EventApplier` changes the state of its user in memory. The event is in `Pending.requests` if its user needs a
   new list, else in `Pending.events`.
2. Produce: `Pending.first`, then the changed states and `Pending.messages` go to Kafka, which acknowledges them. The
   event is in the content of `Pending`, which `Flush` has taken.
3. Store: the same states go to the local store. The event stays where it is.
4. Acknowledge: the events of `Pending.events` are acknowledged and are nowhere from now on.
5. Request: the events of `Pending.requests` move to the `DueRequests` when step 2 begins. `DueRequests.send` makes rank
   requests meanwhile, because a recall takes about as long as Kafka does. It produces them once step 3 is done, so that
   no request tells of a state that a crash could take back. Then it acknowledges the events that they answer. An
   upstream recommender's request that is to be completed takes the same way, without a state of its own.

`EventApplier` does step 1, `Flush` steps 2 to 4, `DueRequests` step 5. After a crash Kafka delivers again each event
that was not acknowledged, and `StateTier.accept` recognises those that are in the state already. So no event is lost,
and none counts twice. No timer runs: an idle worker flushes a single event at once, and the further a worker is behind,
the more events one flush takes.
"""

from __future__ import annotations

from streams import metrics
from streams.kafka.acks import InOrder
from streams.state.changelog import Changelog
from streams.state.due_requests import DueRequests
from streams.state.pending import Pending
from streams.state.users import Users, is_record


class Flush:
    """Steps 2 to 4.

    Parameters
    ----------
    users : Users
        Gives the states that changed.
    pending : Pending
        What was applied; the flush takes it.
    changelog : Changelog
        Gets the states and the messages.
    acks : InOrder
        Is told which events are done.
    requests : DueRequests
        Gets the users who need a list. It may send their requests once `run` is done.
    """

    def __init__(
        self, users: Users, pending: Pending, changelog: Changelog, acks: InOrder, requests: DueRequests
    ) -> None:
        self._users = users
        self._pending = pending
        self._changelog = changelog
        self._acks = acks
        self._requests = requests

    async def run(self) -> None:
        """Make durable what was applied since the last flush. Its users' rank requests may be sent then.

        Raises
        ------
        MembershipLost
            Another worker holds the users now. Nothing was acknowledged.
        """
        pending = self._pending.take()
        changes = self._users.begin_flush()
        for user_id, request in pending.requests.items():
            self._requests.add(user_id, request)
        self._requests.incomplete += pending.incomplete
        self._requests.make_anew(pending.anew)
        states = await self._changelog.write(pending.first, changes, pending.messages)  # steps 2 and 3
        self._users.end_flush()
        self._acks.done(pending.events)  # step 4
        metrics.users_flushed.inc(len(changes))
        for state in states:
            if state.value is not None and is_record(state.key or b""):
                metrics.state_bytes.observe(len(state.value))
