"""CPU time and memory of the processes that hold the models, for Prometheus. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from prometheus_client import Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class ProcessCost(Collector):
    """What the models' processes use. Linux only, as the metrics of the worker's own process.

    Parameters
    ----------
    pids : callable
        Returns the ids of the processes that run now.
    """

    def __init__(self, pids: Callable[[], Collection[int]]) -> None:
        self._pids = pids
        self._cpu_s: dict[int, float] = {}  # by process, also of those that have ended: a counter never falls

    def collect(self) -> Iterator[Metric]:
        """The metrics at this moment, for the Prometheus registry."""
        memory_bytes = 0.0
        for pid in self._pids():
            used = _usage(pid)
            self._cpu_s[pid] = max(used.get("process_cpu_seconds_total", 0.0), self._cpu_s.get(pid, 0.0))
            memory_bytes += used.get("process_resident_memory_bytes", 0.0)
        yield CounterMetricFamily(
            "afterclick_models_cpu_seconds", "CPU time of the processes that hold the models", sum(self._cpu_s.values())
        )
        yield GaugeMetricFamily(
            "afterclick_models_resident_memory_bytes", "Memory of the processes that hold the models", memory_bytes
        )


def _usage(pid: int) -> dict[str, float]:
    families = ProcessCollector(pid=lambda: pid, registry=None).collect()
    return {sample.name: sample.value for family in families for sample in family.samples}
