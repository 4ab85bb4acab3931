"""Membership fencing: a worker writes only while Kafka surely counts it as its partitions' owner.

A worker that was paused for longer than the session time-out (a suspended machine, a full swap) still has work in
hand that another worker has done meanwhile. If the paused worker wrote it, its older states and lists would lie after
the newer ones. Kafka has no conditional write, so the worker checks before each write. It is a member if the group's
coordinator has confirmed that (by a heartbeat or an assignment) and the session time-out, counted from the moment
before the question was sent, is not over. After the time-out the worker waits for the next confirmation. If the
coordinator answers that the worker is no member, the work is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest

CHECK_EVERY_S = 0.02
NO_ERROR, REBALANCING = 0, 27


class MembershipLost(KafkaError):  # type: ignore[misc]
    """The group went on without this worker. Its work in hand is to be dropped: other workers have the messages."""

    retriable = False


class MembershipFence:
    """One app's membership of its consumer group.

    Parameters
    ----------
    session_timeout_s : float
        How long the coordinator waits for a silent member, in seconds.
    """

    def __init__(self, session_timeout_s: float) -> None:
        self._timeout_s = session_timeout_s
        self._until_s = float("-inf")
        self._lost = False

    def confirm(self, asked_s: float) -> None:
        """Note that the coordinator confirmed the membership; the question was sent at this monotonic time."""
        self._until_s = asked_s + self._timeout_s
        self._lost = False

    def silent_s(self) -> float:
        """Return how long ago the last question that was answered was sent, in seconds; infinite before the first."""
        return time.monotonic() - (self._until_s - self._timeout_s)

    def lose(self) -> None:
        """Note that the worker is no member, or is about to leave."""
        self._lost = True

    async def held(self) -> None:
        """Return once the worker is surely a member.

        Raises
        ------
        MembershipLost
            The worker is no member any more.
        """
        while self._lost or time.monotonic() >= self._until_s:
            if self._lost:
                raise MembershipLost("another worker has our partitions: the work in hand is dropped")
            await asyncio.sleep(CHECK_EVERY_S)


def watch_membership(fence: MembershipFence, coordinator: Any, is_ending: Callable[[], bool]) -> None:
    """Keep the fence by what the group's coordinator answers.

    Missing in aiokafka: a hook for these answers. So two of its methods are wrapped.

    A worker that is ending keeps its membership only until the next rebalance: Faust then revokes and restores nothing.

    Parameters
    ----------
    coordinator : aiokafka.consumer.group_coordinator.GroupCoordinator
    """
    send, reset = coordinator._send_req, coordinator.reset_generation

    async def send_and_note(request: Any) -> Any:
        asked_s = time.monotonic()
        if isinstance(request, LeaveGroupRequest) or (isinstance(request, JoinGroupRequest) and is_ending()):
            fence.lose()
        answer = await send(request)
        heartbeat, assigned = isinstance(request, HeartbeatRequest), isinstance(request, SyncGroupRequest)
        if heartbeat and answer.error_code in (NO_ERROR, REBALANCING):
            fence.confirm(asked_s)
        elif assigned and answer.error_code == NO_ERROR:
            fence.lose() if is_ending() else fence.confirm(asked_s)
        return answer

    def lose_and_reset() -> None:
        fence.lose()
        reset()

    coordinator._send_req, coordinator.reset_generation = send_and_note, lose_and_reset
