"""A worker writes only while it is surely a member of its group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest

from streams.faust_compat.fencing import MembershipFence, MembershipLost, watch_membership

SESSION_S = 5.0


async def within(fence: MembershipFence, seconds: float) -> bool:
    try:
        await asyncio.wait_for(fence.held(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


def test_the_fence_is_held_for_a_session_from_before_the_question() -> None:
    fence = MembershipFence(SESSION_S)
    assert not asyncio.run(within(fence, 0.1)), "the coordinator has confirmed nothing"
    fence.confirm(time.monotonic() - SESSION_S + 1)
    assert asyncio.run(within(fence, 0.1))
    time.sleep(1)
    assert not asyncio.run(within(fence, 0.1)), "the answer may have been old when we woke to read it"


def test_a_waiting_write_goes_on_when_confirmed_and_gives_up_when_lost() -> None:
    async def waited(then: str) -> None:
        fence = MembershipFence(SESSION_S)
        waiting = asyncio.create_task(fence.held())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        if then == "confirmed":
            fence.confirm(time.monotonic())
        else:
            fence.lose()
        await asyncio.wait_for(waiting, 20)

    asyncio.run(waited("confirmed"))
    with pytest.raises(MembershipLost):
        asyncio.run(waited("lost"))


class Coordinator:
    """The methods of aiokafka's group coordinator that the fence wraps."""

    def __init__(self) -> None:
        self.error_code = 0

    async def _send_req(self, request: Any) -> Any:
        return SimpleNamespace(error_code=self.error_code)

    def reset_generation(self) -> None:
        pass


@pytest.mark.parametrize(
    ("request_", "error_code", "held"),
    [
        (HeartbeatRequest("group", 1, "me"), 0, True),
        (HeartbeatRequest("group", 1, "me"), 27, True),
        (HeartbeatRequest("group", 1, "me"), 15, False),
        (SyncGroupRequest("group", 1, "me", None, []), 0, True),
        (SyncGroupRequest("group", 1, "me", None, []), 27, False),
    ],
)
def test_the_coordinators_answers_keep_the_fence(request_: Any, error_code: int, held: bool) -> None:
    async def played() -> bool:
        fence, coordinator = MembershipFence(SESSION_S), Coordinator()
        watch_membership(fence, coordinator, lambda: False)
        coordinator.error_code = error_code
        await coordinator._send_req(request_)
        return await within(fence, 0.1)

    assert asyncio.run(played()) is held


@pytest.mark.parametrize("leave", [True, False])
def test_a_member_that_leaves_or_is_removed_loses_the_fence(leave: bool) -> None:
    async def played() -> None:
        fence, coordinator = MembershipFence(SESSION_S), Coordinator()
        watch_membership(fence, coordinator, lambda: False)
        await coordinator._send_req(HeartbeatRequest("group", 1, "me"))
        assert await within(fence, 0.1)
        if leave:
            await coordinator._send_req(LeaveGroupRequest("group", "me"))
        else:
            coordinator.reset_generation()
        await fence.held()

    with pytest.raises(MembershipLost):
        asyncio.run(played())


JOIN = JoinGroupRequest("group", 1, 1, "me", None, "consumer", [])
SYNC = SyncGroupRequest("group", 1, "me", None, [])


@pytest.mark.parametrize("requests", [[JOIN], [SYNC], [JOIN, SYNC]])
def test_a_worker_that_is_ending_loses_the_fence_at_the_next_rebalance(requests: Sequence[Any]) -> None:
    """Faust revokes and restores nothing for it any more."""

    async def played() -> None:
        fence, coordinator = MembershipFence(SESSION_S), Coordinator()
        watch_membership(fence, coordinator, lambda: True)
        await coordinator._send_req(HeartbeatRequest("group", 1, "me"))
        assert await within(fence, 0.1)
        for request in requests:
            await coordinator._send_req(request)
        await fence.held()

    with pytest.raises(MembershipLost):
        asyncio.run(played())
