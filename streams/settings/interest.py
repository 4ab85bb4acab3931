"""Settings of the interest state: how tastes fade, and what an event weighs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import field_validator

from encoders.events.types import DEFAULT_WEIGHTS, FULL_DWELL_S, same_code
from streams.settings.group import SettingsGroup, setting
from streams.settings.topic_checks import MAX_TYPE

MAX_WEIGHT = 1_000


class InterestSettings(SettingsGroup):
    """How fast tastes fade."""

    session_half_life_minutes: float = setting(
        30,
        "After this time an event weighs half as much in the session interest. Chosen by us: the usual length of a "
        "session.",
        unit="minutes",
        gt=0,
    )
    long_half_life_days: float = setting(
        30,
        "After this time an event weighs half as much in the long-term interest. Chosen by us: tastes drift over a "
        "season.",
        unit="days",
        gt=0,
    )
    weights: dict[str, float] = setting(
        dict(DEFAULT_WEIGHTS),
        "What an event of each type weighs, as a sign of interest; negative: less of the same. Name what you change "
        "and your own types (`cart=3,wishlist=2`); all others stay. An event of a type without a weight is rejected.",
        unit="type=clicks, with commas",
    )
    reviews: Literal["none", "english"] = setting(
        "none",
        "Whose sentiment counts of the texts that users write about items: a bad review means less of the same. "
        "`english`: by the lexicon VADER (`pip install 'afterclick[reviews]'`), for shops whose users write English. "
        "`none`: no text is judged.",
    )
    full_dwell_s: float = setting(
        FULL_DWELL_S,
        "How long a look lasts (`dwell_ms` of a click or a view) that counts with its whole weight. A shorter one "
        "counts less, a longer one up to half more. The default is the usual limit of a satisfied click.",
        unit="s",
        gt=0,
    )
    skip_dwell_s: float = setting(
        0,
        "A look that ended sooner counts as an event of the type `skip`. 0: none does.",
        unit="s",
        ge=0,
    )
    history: int = setting(
        50,
        "How many of a user's newest events are kept one by one, as the text that the model reads.",
        unit="events",
        ge=1,
        le=50,
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _over_defaults(cls, value: object) -> object:
        if isinstance(value, str):
            value = dict(_pair(pair) for pair in value.split(",") if pair.strip())
        return {**DEFAULT_WEIGHTS, **value} if isinstance(value, Mapping) else value

    @field_validator("weights")
    @classmethod
    def _weights(cls, value: dict[str, float]) -> dict[str, float]:
        return checked_weights(value)

    def over(self, others: Mapping[str, float]) -> InterestSettings:
        """Return the settings with the weights of types that have none here, or only the default one."""
        own = {name: weight for name, weight in self.weights.items() if weight != DEFAULT_WEIGHTS.get(name)}
        weights = checked_weights({**self.weights, **others, **own})
        return self.model_copy(update={"weights": weights})


def checked_weights(weights: dict[str, float]) -> dict[str, float]:
    """Return the weights of types, or raise a `ValueError` that says which is wrong."""
    for name, weight in weights.items():
        if not 0 < len(name) <= MAX_TYPE or not abs(weight) <= MAX_WEIGHT:
            raise ValueError(
                f"types of 1 to {MAX_TYPE} characters with -{MAX_WEIGHT} to {MAX_WEIGHT}, not {name}={weight}"
            )
    if alike := same_code(weights):
        raise ValueError(f"types that a state can tell apart, not {alike[0]} beside {alike[1]}: rename one")
    return weights


def _pair(text: str) -> tuple[str, float]:
    """Read `cart=2`."""
    name, _, weight = text.partition("=")
    try:
        return name.strip(), float(weight)
    except ValueError:
        raise ValueError(f"a number for each type, such as cart=2, not {text.strip()}") from None
