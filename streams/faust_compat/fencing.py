"""Whether Kafka surely still counts this worker as its partitions' owner: nothing is written without.

A worker that was stopped for longer than its session (a paused machine, a full swap) wakes with work in hand that
another worker has done meanwhile: written now, its older states and lists would come to lie after the newer ones. Kafka
has no conditional write, so the worker asks itself before each: the group's coordinator has confirmed our membership
(by a heartbeat, or the assignment), and from the moment *before* we asked, the session time-out is not over. If it is
over we wait for the next confirmation, unless it says that we are out: then what we hold is somebody else's by now.
Set by `transport`'s consumer, asked by its producer.
"""

from __future__ import annotations

import asyncio
import time

from aiokafka.errors import KafkaError

LOOK_EVERY_S = 0.02


class MembershipLost(KafkaError):  # type: ignore[misc]
    """The group went on without us; what we have in hand is to be dropped. Others have its messages."""

    retriable = False


class MembershipFence:
    """One app's membership.

    Parameters
    ----------
    session_timeout_s : how long the coordinator waits for a member that is silent.
    """

    def __init__(self, session_timeout_s: float) -> None:
        self._timeout_s = session_timeout_s
        self._until_s = float("-inf")
        self._lost = False

    def confirm(self, asked_s: float) -> None:
        """The coordinator answered what we asked at this monotonic time: we are a member."""
        self._until_s = asked_s + self._timeout_s
        self._lost = False

    def silent_s(self) -> float:
        """How long ago the question was asked that the coordinator answered last; infinite before the first."""
        return time.monotonic() - (self._until_s - self._timeout_s)

    def lose(self) -> None:
        """It answered that we are none, or we are about to leave."""
        self._lost = True

    async def held(self) -> None:
        """Return once the fence is surely held.

        Raises
        ------
        MembershipLost
            It is not ours any more.
        """
        while self._lost or time.monotonic() >= self._until_s:
            if self._lost:
                raise MembershipLost("our partitions are another worker's by now: what was in hand is dropped")
            await asyncio.sleep(LOOK_EVERY_S)
