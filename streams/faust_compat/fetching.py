"""Faults of Faust's consumer around a fetch, each mended by one class. `consumer` puts them together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka
from faust.types import TP

from streams.faust_compat.constants import NO_RIGHT

FETCH_S = 0.2
"""The longest that a fetch takes, and so the longest that a seek waits for one."""
IDLE_S = 0.02


class CopiesActivePartitions(aiokafka.Consumer):
    """Fault: a fetch gets the live set of active partitions.

    A restore empties that set while the fetch is under way. aiokafka takes an empty set for "all partitions", and Faust
    drops the messages of the partitions that it did not ask for. Seen with 0.15.3 as events lost over a restart.
    """

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        copy = None if active_partitions is None else set(active_partitions)
        return {} if copy == set() else await super()._getmany(copy, timeout)


class FetchesBeforeSeeks(aiokafka.Consumer):
    """Fault: a fetch that is under way during a rebalance returns the first messages after the rebalance's seek.

    The partitions are not active yet, so Faust drops these messages, takes the hole for one of a compacted topic, and
    commits past it. (Faust's `wait_for_stopped_flow` waits for nothing: `not_waiting_next_records` is never cleared.)
    Here a seek waits until no fetch is under way. Seen with 0.15.3 as events lost over a rebalance.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fetch_or_seek = asyncio.Lock()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        generation = cast(Any, self.app).consumer_generation_id
        async with self._fetch_or_seek:
            if self._is_over(generation):
                return {}  # a rebalance's seek came first
            records = await super()._getmany(active_partitions, min(timeout, FETCH_S))
        return {} if self._is_over(generation) else records  # every partition starts elsewhere now

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        async with self._fetch_or_seek:
            await super().seek_wait(partitions)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        async with self._fetch_or_seek:
            return await super().seek_to_committed()

    def _is_over(self, generation: int) -> bool:
        return not self.flow_active or cast(Any, self.app).consumer_generation_id != generation


class ReportsRefusals(aiokafka.Consumer):
    """Fault: a fetch that Kafka refuses for a missing right crashes the worker with a stack trace.

    Here the transport's `on_refusal` gets the error.
    """

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        try:
            return await super()._getmany(active_partitions, timeout)
        except NO_RIGHT as error:
            self._report_refusal(error)
            return {}

    def _report_refusal(self, error: KafkaError) -> None:
        cast(Any, self.transport).on_refusal(error)


class IdlesBriefly(aiokafka.Consumer):
    """Fault: while no partition is active Faust sleeps for a second, and every list is late by that second."""

    async def _wait_next_records(self, timeout: float) -> Any:
        if self.flow_active and not self._get_active_partitions():
            await self.sleep(IDLE_S)
            return {}, set()
        return await super()._wait_next_records(timeout)
