"""Is this worker alive, and is it ready? What its tiers say of themselves, judged.

Alive: the event loop turns, and messages get done or there are none to do. Ready: tables are restored, the catalogue is
read, models are loaded, Kafka answers, every partition is read, and the lag is under its limit. Knows no HTTP and no
Kafka: `watch` tells it once a second, `probes` asks from threads of its own, so a loop that is stuck is still told of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from streams import metrics, settings


@dataclass(frozen=True)
class Work:
    """What one tier has done and has to do, as Kafka's offsets tell it.

    Attributes
    ----------
    done : partition -> offset behind the last message that is done.
    lag : messages that are not done.
    held : of these, the ones behind the open transaction of a producer: nobody can read them before it ends.
    silent : partitions whose leader has not answered since they became ours.
    away : why no server of Kafka answers, or takes what we send, in words; empty if they do.
    missing : topics that the tier reads and that are not there.
    mute_s : seconds for which Kafka has answered everybody but this tier's consumer; 0 if it answers.
    """

    done: Mapping[object, int] = field(default_factory=dict)
    lag: int = 0
    held: int = 0
    silent: int = 0
    away: str = ""
    mute_s: float = 0.0
    missing: tuple[str, ...] = ()


@dataclass
class Tier:
    """What one tier said last; times are of the monotonic clock."""

    ready: bool = False
    turned_at: float | None = None
    moved_at: float = 0.0
    work: Work = Work()


class Health:
    """The worker's own judgement; every answer is a list of what is wrong, empty if nothing is.

    `afterclick_worker_ready` is worked out from it whenever it is read.

    Attributes
    ----------
    models_loaded : asked whether the models' process has them in memory.
    away : why no server of Kafka answers before the tiers have begun, in words; empty if one does.
    notes : asked for what a person should know of a worker that is ready, such as an empty catalogue.
    """

    def __init__(self, limits: settings.Health, tiers: Collection[str]) -> None:
        self.models_loaded: Callable[[], bool] = lambda: False
        self.away = ""
        self.notes: list[Callable[[], list[str]]] = []
        self._limits = limits
        self._tiers = {tier: Tier() for tier in tiers}
        for name in tiers:
            metrics.ready.labels(name).set_function(partial(self._is_ready, name))

    def set_ready(self, tier: str, ready: bool) -> None:
        """Tables are restored and the catalogue is read; or partitions are on their way and that is to be seen."""
        self._tiers[tier].ready = ready

    def note(self, tier: str, work: Work) -> None:
        """Say that the loop turned, and what there is to do; to be called every second."""
        noted, now = self._tiers[tier], time.monotonic()
        idle = work.lag <= work.held and not work.silent and not work.mute_s
        if idle or not noted.ready or work.away or work.done != noted.work.done:
            noted.moved_at = now
        noted.work, noted.turned_at = work, now

    def why_not_alive(self) -> list[str]:
        """What a restart may mend. A worker that is still starting is alive, and so is one that waits for Kafka."""
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
        """What is missing for lists to be fresh."""
        missing = [line for name in self._tiers for line in self._why_not_ready(name)]
        return list(dict.fromkeys(missing))

    def _is_ready(self, name: str) -> float:
        return float(not self._why_not_ready(name))

    def _why_not_ready(self, name: str) -> list[str]:
        tier, work = self._tiers[name], self._tiers[name].work
        wrong = [line for line in self.why_not_alive() if line.startswith(f"{name}: ")]
        if away := work.away or self.away:
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
        return [*wrong, *(f"{name}: topic {topic} is not there any more; create it again" for topic in work.missing)]

    def worth_knowing(self) -> list[str]:
        """What is no reason to call the worker not ready: it would be the same after a restart."""
        return [note for notes in self.notes for note in notes()]
