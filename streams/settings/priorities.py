"""Settings of what lists may have and prefer, whatever ranks them: repeats, freshness, prices, domains."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import field_validator

from streams.settings.group import SettingsGroup, setting, split_commas


def checked_names(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of placements, each once."""
    if wrong := [name for name in value if not re.fullmatch(r"[a-z0-9_-]{1,64}", name)]:
        raise ValueError(f"names of 1 to 64 of a-z, 0-9, _ and -, not {wrong[0]!r}")
    return tuple(dict.fromkeys(value))


class PrioritySettings(SettingsGroup):
    """Which items come again, first, or in a list of their own. `CandidatesSettings` has them."""

    repeats: Literal["never", "unbought", "always", "favoured"] = setting(
        "unbought",
        "Which items that a user knows may be recommended to them again. `never`: none that the state remembers. "
        "`unbought`: what they did not buy. `always`: all. `favoured`: all, and those that they chose often and lately "
        "come first, by a source `again`, but for those of the last `interest.session_half_life_minutes`.",
    )
    freshness_half_life_hours: float = setting(
        0,
        "An item that is older by this time has the rank of one twice as far behind. 0: age does not count.",
        unit="hours",
        ge=0,
    )
    price_power: float = setting(
        0,
        "An item's rank is divided by its price to this power: 1 where a click pays the price, 0 where the price does "
        "not count. An item without a price counts as one of price 1.",
        unit="power",
        ge=0,
        le=2,
    )
    domains: tuple[str, ...] = setting(
        (),
        "The catalogues of which each user has one more list, such as `books,films`: of the items alone whose `domain` "
        "has this name. Each is a placement of this name, and costs each event one more list.",
        unit="names with commas",
        max_length=16,
    )
    _split_domains = field_validator("domains", mode="before")(split_commas)
    _names_of_domains = field_validator("domains")(checked_names)
