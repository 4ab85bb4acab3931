"""The state of the pipeline, from two scrapes of a worker's metrics. Knows no HTTP but the scrape, and no page."""

from __future__ import annotations

import http.client
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
from prometheus_client.samples import Sample

from streams.settings import MetricsSettings
from streams.worker.scrape import scrape, url_of

OVER_S = 10.0
"""Rates and means are over this time; chosen by us: a person sees the effect of a click, and no single number jumps."""
EVENT_TOPICS = ("clicks", "purchases", "events", "searches", "preferences")


class PipelineState(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows of the pipeline. A mean or a share is None without a list in the latest `OVER_S` seconds.

    `about` says where the figures come from, `problem` why there are none. `degraded` counts lists by reason, without
    the cold-start lists, since the worker started.
    """

    about: str
    reachable: bool
    problem: str = ""
    ready: bool = False
    lag: int = 0
    catalogue_items: int = 0
    events: int = 0
    events_per_s: float | None = None
    dead_letters: int = 0
    lists: int = 0
    lists_per_s: float | None = None
    event_to_list_ms: float | None = None
    batch_lists: float | None = None
    inference_ms: float | None = None
    models: list[str] = []
    degraded: dict[str, int] = {}
    degraded_share: float | None = None


@dataclass
class Totals:
    """Sums over the samples of one scrape."""

    at_s: float
    of: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    degraded: dict[str, int] = field(default_factory=dict)
    lists_by_model: dict[str, float] = field(default_factory=dict)
    ready: bool = False

    @classmethod
    def read(cls, samples: Iterable[Sample], at_s: float) -> Totals:
        """Sum what the page shows."""
        totals, is_ready = cls(at_s), []
        for name, labels, value, *_ in samples:
            if name == "afterclick_events_total":
                if labels.get("topic") in EVENT_TOPICS and labels.get("outcome") == "accepted":
                    totals.of["events"] += value
            elif name == "afterclick_lists_degraded_total":
                reason = labels.get("reason", "")
                if value and reason != "cold-user":
                    totals.degraded[reason] = totals.degraded.get(reason, 0) + int(value)
            elif name == "afterclick_lists_total":
                totals.lists_by_model[labels.get("model", "")] = value
            elif name == "afterclick_worker_ready":
                is_ready.append(bool(value))
            elif not name.startswith("afterclick_event_to_list_seconds") or labels.get("since") == "event":
                totals.of[name] += value
        totals.ready = bool(is_ready) and all(is_ready)
        return totals


class PipelineScrape:
    """Scrape a worker when asked, at most once in a while, and compare with an earlier scrape.

    Parameters
    ----------
    metrics : MetricsSettings
        Where the worker shows its metrics.
    """

    def __init__(self, metrics: MetricsSettings) -> None:
        self._metrics = metrics
        self._totals: list[Totals] = []

    def look(self) -> PipelineState:
        """Scrape the worker now. Blocks for milliseconds, or for seconds where nobody answers."""
        if not self._metrics.port:
            problem = "AFTERCLICK_METRICS__PORT is 0, so the worker shows no metrics"
            return PipelineState(about="", reachable=False, problem=problem)
        about = f"from {url_of(self._metrics)}"
        try:
            totals = Totals.read(scrape(self._metrics), time.monotonic())
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._totals.clear()
            return PipelineState(about=about, reachable=False, problem=str(error))
        return self.compared(totals, about)

    def compared(self, now: Totals, about: str) -> PipelineState:
        """Return the state at a scrape. Rates and means compare it with the earlier scrapes of the latest `OVER_S`."""
        if self._totals and now.of["events"] < self._totals[-1].of["events"]:
            self._totals.clear()  # another worker has started
        self._totals = [old for old in self._totals if now.at_s - old.at_s <= OVER_S] + [now]
        then = self._totals[0]
        elapsed_s = now.at_s - then.at_s

        def gain(name: str) -> float:
            return now.of[name] - then.of[name]

        def per_s(gained: float) -> float | None:
            return gained / elapsed_s if elapsed_s > 0 else None

        def mean(metric: str) -> float | None:
            count = gain(f"{metric}_count")
            return gain(f"{metric}_sum") / count if count > 0 else None

        lists = sum(now.lists_by_model.values())
        fewer = {reason: int(lists_) for reason, lists_ in now.degraded.items()}
        degraded = sum(now.degraded.values()) - sum(then.degraded.values())
        listed = lists - sum(then.lists_by_model.values())
        return PipelineState(
            about=about,
            reachable=True,
            ready=now.ready,
            lag=int(now.of["afterclick_consumer_lag_messages"]),
            catalogue_items=int(now.of["afterclick_catalogue_items"]),
            events=int(now.of["events"]),
            events_per_s=per_s(gain("events")),
            dead_letters=int(now.of["afterclick_dead_letters_total"]),
            lists=int(lists),
            lists_per_s=per_s(listed),
            event_to_list_ms=_ms(mean("afterclick_event_to_list_seconds")),
            batch_lists=mean("afterclick_batch_lists"),
            inference_ms=_ms(mean("afterclick_inference_seconds")),
            models=[model for model, count in now.lists_by_model.items() if count and model != "none"],
            degraded=fewer,
            degraded_share=degraded / listed if listed > 0 else None,
        )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
