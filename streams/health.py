"""Is this worker alive, and is it ready? What its tiers say of themselves, judged.

Alive: the event loop turns, and committed offsets move or there is nothing to commit. Ready: tables are restored, the
catalogue is read, models are loaded, and the lag is under its limit. Knows no HTTP and no Kafka: `worker` tells it once
a second, `probes` asks from threads of its own, so a loop that is stuck is still told of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from streams import metrics, settings


@dataclass
class Tier:
    """What one tier said last; times are of the monotonic clock."""

    ready: bool = False
    turned_at: float | None = None
    moved_at: float = 0.0
    lag: int = 0
    committed: Mapping[object, int] = field(default_factory=dict)


class Health:
    """The worker's own judgement; every answer is a list of what is wrong, empty if nothing is.

    Attributes
    ----------
    models_loaded : asked whether the models' process has them in memory.
    notes : asked for what a person should know of a worker that is ready, such as an empty catalogue.
    """

    def __init__(self, limits: settings.Health, tiers: Collection[str]) -> None:
        self.models_loaded: Callable[[], bool] = lambda: False
        self.notes: list[Callable[[], list[str]]] = []
        self._limits = limits
        self._tiers = {tier: Tier() for tier in tiers}
        for tier in tiers:
            metrics.ready.labels(tier).set(0)

    def set_ready(self, tier: str, ready: bool) -> None:
        """Tables are restored and the catalogue is read; or partitions are on their way and that is to be seen."""
        self._tiers[tier].ready = ready
        metrics.ready.labels(tier).set(ready)

    def note(self, tier: str, lag: int, committed: Mapping[object, int], waits_for_kafka: bool = False) -> None:
        """Say that the loop turned, and what is committed of each partition; to be called every second.

        Parameters
        ----------
        lag : messages not committed yet.
        waits_for_kafka : no server takes a connection, so nobody's offsets move, and no restart would help.
        """
        noted, now = self._tiers[tier], time.monotonic()
        if not lag or not noted.ready or waits_for_kafka or committed != noted.committed:
            noted.moved_at = now
        noted.lag, noted.committed, noted.turned_at = lag, dict(committed), now

    def stands_still(self, tier: str) -> bool:
        """Whether half of the time has passed after which the tier counts as stuck."""
        noted = self._tiers[tier]
        return noted.turned_at is not None and noted.turned_at - noted.moved_at > self._limits.stuck_s / 2

    def why_not_alive(self) -> list[str]:
        """What a restart may mend. A worker that is still starting is alive."""
        wrong = []
        for name, tier in self._tiers.items():
            if tier.turned_at is None:
                continue
            now = time.monotonic()
            if (stood_s := now - tier.turned_at) > self._limits.stuck_s:
                wrong.append(f"{name}: the event loop has not turned for {stood_s:.0f} s")
            elif (stood_s := now - tier.moved_at) > self._limits.stuck_s:
                wrong.append(f"{name}: no offset was committed for {stood_s:.0f} s, with {tier.lag} messages to do")
        return wrong

    def why_not_ready(self) -> list[str]:
        """What is missing for lists to be fresh."""
        wrong = self.why_not_alive()
        if not self.models_loaded():
            wrong.append("models: not loaded")
        for name, tier in self._tiers.items():
            if not tier.ready:
                wrong.append(f"{name}: not caught up")
            elif tier.lag > self._limits.max_lag:
                wrong.append(f"{name}: {tier.lag} messages behind, more than {self._limits.max_lag}")
        return wrong

    def worth_knowing(self) -> list[str]:
        """What is no reason to call the worker not ready: it would be the same after a restart."""
        return [note for notes in self.notes for note in notes()]
