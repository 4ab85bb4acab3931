"""The half-lives, weights and priorities of the settings, in the units of the interest state and of the counts."""

from __future__ import annotations

from encoders.interest import Decay
from ranker.recall.counts import Counts
from ranker.recall.priorities import Priorities
from streams.receive.user_events import Dwell
from streams.settings import Settings


def decay_of(settings: Settings) -> Decay:
    """Give the settings of the interest state in its own units."""
    return Decay(
        session_half_life_ms=settings.interest.session_half_life_minutes * 60_000,
        long_half_life_ms=settings.interest.long_half_life_days * 86_400_000,
        weights=settings.interest.weights,
        history=settings.interest.history,
    )


def dwell_of(settings: Settings) -> Dwell:
    """Give what the duration of a look says."""
    return Dwell(settings.interest.full_dwell_s, settings.interest.skip_dwell_s)


def priorities_of(settings: Settings) -> Priorities:
    """Give what counts beside the model."""
    wanted = settings.candidates
    return Priorities(wanted.freshness_half_life_hours * 3_600_000, wanted.price_power, wanted.repeats)


def counts_of(settings: Settings) -> Counts:
    """Make empty counts with the configured half-lives."""
    return Counts(
        co_visit_half_life_ms=settings.candidates.co_visit_half_life_days * 86_400_000,
        trend_half_life_ms=settings.candidates.trending_half_life_hours * 3_600_000,
        window=settings.interest.history,
    )
