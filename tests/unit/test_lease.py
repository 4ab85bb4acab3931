"""A worker writes only while it is surely a member of its group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest
from faust.exceptions import ProducerSendError

from streams.faust_compat.consumer_thread import _keep
from streams.faust_compat.fencing import MembershipFence, MembershipLost
from streams.kafka import reliable_producer as producer
from streams.kafka.outgoing import Outgoing
from streams.kafka.reliable_producer import ReliableProducer

SESSION_S = 5.0


async def within(fence: MembershipFence, seconds: float) -> bool:
    try:
        await asyncio.wait_for(fence.held(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


def test_it_is_held_for_a_session_from_before_the_question() -> None:
    fence = MembershipFence(SESSION_S)
    assert not asyncio.run(within(fence, 0.1)), "nobody has confirmed anything"
    fence.confirm(time.monotonic() - SESSION_S + 0.3)
    assert asyncio.run(within(fence, 0.1))
    time.sleep(0.3)
    assert not asyncio.run(within(fence, 0.1)), "the answer may have been old when we woke to read it"


def test_who_waits_goes_on_when_confirmed_and_gives_up_when_lost() -> None:
    async def waited(then: str) -> None:
        fence = MembershipFence(SESSION_S)
        waiting = asyncio.create_task(fence.held())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        if then == "confirmed":
            fence.confirm(time.monotonic())
        else:
            fence.lose()
        await asyncio.wait_for(waiting, 1)

    asyncio.run(waited("confirmed"))
    with pytest.raises(MembershipLost):
        asyncio.run(waited("lost"))


class Coordinator:
    """Of aiokafka's group coordinator, what the fence watches."""

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
def test_what_the_coordinator_says_keeps_it(request_: Any, error_code: int, held: bool) -> None:
    async def played() -> bool:
        fence, coordinator = MembershipFence(SESSION_S), Coordinator()
        _keep(fence, coordinator, lambda: False)
        coordinator.error_code = error_code
        await coordinator._send_req(request_)
        return await within(fence, 0.1)

    assert asyncio.run(played()) is held


@pytest.mark.parametrize("leave", [True, False])
def test_a_member_that_leaves_or_is_put_out_has_lost_it(leave: bool) -> None:
    async def played() -> None:
        fence, coordinator = MembershipFence(SESSION_S), Coordinator()
        _keep(fence, coordinator, lambda: False)
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
def test_who_is_ending_has_lost_it_with_the_next_rebalance(requests: Sequence[Any]) -> None:
    """Nothing is handed over or restored for it any more."""

    async def played() -> None:
        fence, coordinator = MembershipFence(SESSION_S), Coordinator()
        _keep(fence, coordinator, lambda: True)
        await coordinator._send_req(HeartbeatRequest("group", 1, "me"))
        assert await within(fence, 0.1)
        for request in requests:
            await coordinator._send_req(request)
        await fence.held()

    with pytest.raises(MembershipLost):
        asyncio.run(played())


class Flaky:
    """An app whose producer fails as told, send by send, and then works."""

    should_stop = False

    def __init__(self, *outcomes: Exception | None) -> None:
        self.producer = self
        self.sent = 0
        self._outcomes = list(outcomes)

    async def send(self, *_: Any) -> Any:
        self.sent += 1
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if isinstance(outcome, ProducerSendError):
            raise outcome
        future = asyncio.get_running_loop().create_future()
        if outcome is None:
            future.set_result("place")
        else:
            future.set_exception(outcome)
        return future


@pytest.mark.parametrize("failure", [KafkaTimeoutError(), ProducerSendError("a full buffer")])
def test_the_outbox_is_patient_with_kafka(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "RETRY_S", 0.01)
    app: Any = Flaky(failure)
    assert asyncio.run(ReliableProducer(app).deliver([Outgoing("t", b"k", b"v")])) == ["place"]
    assert app.sent == 2


def test_the_outbox_gives_up_what_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "RETRY_S", 60)
    app: Any = Flaky(KafkaTimeoutError(), MembershipLost("gone"), None)
    with pytest.raises(MembershipLost):
        asyncio.run(ReliableProducer(app).deliver([Outgoing("t", b"k", b"v")] * 3))
    assert issubclass(MembershipLost, KafkaError)
