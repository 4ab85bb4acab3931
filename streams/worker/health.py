"""Decide whether this worker is alive, and whether it is ready, by what its tiers report.

Alive: the event loop turns, and messages get done or there are none to do. Ready: tables are restored, the catalogue is
read, models are loaded, Kafka answers, every partition is read, and the lag is under its limit. Knows no HTTP and no
Kafka. The tiers report once a second from the event loop. Answers can be asked for from any thread, so a stuck loop
shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from streams import metrics, settings


@dataclass(frozen=True)
class Workload:
    """What one tier has done and has to do, by Kafka's offsets.

    Attributes
    ----------
    done : mapping
        Partition -> the offset after the last message that is done.
    lag : int
        Messages that are not done.
    held : int
        The part of `lag` behind the open transaction of a producer: nobody can read these messages before it ends.
    silent : int
        Partitions whose leader has not answered since they were assigned to this worker.
    away : str
        Why no server of Kafka answers, or stores what we send, in words; empty if they do.
    mute_s : float
        Seconds for which Kafka has answered other clients but not this tier's consumer; 0 if it answers.
    missing : tuple of str
        Topics that the tier reads and that do not exist.
    """

    done: Mapping[object, int] = field(default_factory=dict)
    lag: int = 0
    held: int = 0
    silent: int = 0
    away: str = ""
    mute_s: float = 0.0
    missing: tuple[str, ...] = ()


@dataclass
class TierReport:
    """The latest report of one tier. Times are of the monotonic clock, in seconds."""

    ready: bool = False
    turned_at: float | None = None
    moved_at: float = 0.0
    work: Workload = Workload()


class Health:
    """The worker's state. Every answer is a list of problems, empty if there are none.

    The metrics `afterclick_worker_ready` and `afterclick_kafka_away` are computed from it whenever they are read.

    Attributes
    ----------
    models_loaded : callable
        Returns whether the models' process has the models in memory.
    away : str
        Why no server of Kafka answers before the tiers have started, in words; empty if one does.
    waits_for : callable
        Returns for which other service messages wait, in words; empty if none waits. A restart would not help.
    notes : list of callable
        Each returns notes for a person on a worker that is ready, such as an empty catalogue.
    """

    def __init__(self, limits: settings.HealthSettings, tiers: Collection[str]) -> None:
        self.models_loaded: Callable[[], bool] = lambda: False
        self.away = ""
        self.waits_for: Callable[[], str] = str
        self.notes: list[Callable[[], list[str]]] = []
        self._limits = limits
        self._tiers = {tier: TierReport() for tier in tiers}
        for name in tiers:
            metrics.ready.labels(name).set_function(partial(self._is_ready, name))
            metrics.kafka_away.labels(name).set_function(partial(self._is_away, name))

    def set_ready(self, tier: str, ready: bool) -> None:
        """Note whether tables are restored and the catalogue is read. False while partitions are being assigned."""
        self._tiers[tier].ready = ready

    def note(self, tier: str, work: Workload) -> None:
        """Note that the event loop turned, and what there is to do. To be called every second."""
        noted, now = self._tiers[tier], time.monotonic()
        idle = work.lag <= work.held and not work.silent and not work.mute_s
        if idle or not noted.ready or work.away or self.waits_for() or work.done != noted.work.done:
            noted.moved_at = now
        noted.work, noted.turned_at = work, now

    def why_not_alive(self) -> list[str]:
        """Return the problems that a restart may end. A worker that is starting or waits for Kafka is alive."""
        wrong = []
        for name, tier in self._tiers.items():
            if tier.turned_at is None:
                continue
            now = time.monotonic()
            if (stood_s := now - tier.turned_at) > self._limits.stuck_s:
                wrong.append(f"{name}: the event loop has not turned for {stood_s:.0f} s")
            elif (stood_s := now - tier.moved_at) > self._limits.stuck_s:
                left = tier.work.lag - tier.work.held
                wrong.append(f"{name}: no message was done for {stood_s:.0f} s, with {left} to do")
        return wrong

    def why_not_ready(self) -> list[str]:
        """Return the problems by which lists are not fresh."""
        missing = [line for name in self._tiers for line in self._why_not_ready(name)]
        waits = [self.waits_for()] if missing and self.waits_for() else []
        return list(dict.fromkeys([*missing, *waits]))

    def _is_ready(self, name: str) -> float:
        return float(not self._why_not_ready(name))

    def _is_away(self, name: str) -> float:
        return float(bool(self._why_away(name)))

    def _why_away(self, name: str) -> str:
        return self._tiers[name].work.away or self.away

    def _why_not_ready(self, name: str) -> list[str]:
        tier, work = self._tiers[name], self._tiers[name].work
        wrong = [line for line in self.why_not_alive() if line.startswith(f"{name}: ")]
        if away := self._why_away(name):
            wrong.append(f"Kafka: {away}")
        elif work.mute_s:
            wrong.append(f"{name}: the consumer group's coordinator has not answered for {work.mute_s:.0f} s")
        if not self.models_loaded():
            wrong.append("models: not loaded")
        if not tier.ready:
            wrong.append(f"{name}: not caught up")
        elif work.silent:
            wrong.append(f"{name}: {work.silent} partitions without an answer from their leader")
        elif work.lag > self._limits.max_lag:
            held = f", {work.held} of them held by the open transaction of a producer" if work.held else ""
            wrong.append(f"{name}: {work.lag} messages behind, more than {self._limits.max_lag}{held}")
        return [*wrong, *(f"{name}: topic {topic} does not exist any more; create it again" for topic in work.missing)]

    def worth_knowing(self) -> list[str]:
        """Return notes for a person. They do not make a worker unready, because a restart would not change them."""
        waits = [self.waits_for()] if self.waits_for() else []
        return [*waits, *(note for notes in self.notes for note in notes())]
