"""Settings of the reasons that lists give: their language, and the model that words them. Loads no model."""

from __future__ import annotations

from pathlib import Path

from streams.settings.group import SettingsGroup, setting
from streams.settings.recommending import DEVICE_EFFECT, DTYPE_EFFECT, Device, Dtype


class ReasonsSettings(SettingsGroup):
    """How lists say why an item is there."""

    language: str = setting(
        "en",
        "The language of reasons for users whose `context.language` is missing or has no phrases. The package has "
        "`en`, `de` and `zh`.",
        unit="language tag, such as de or pt-BR",
        pattern="^[A-Za-z0-9]+([-_][A-Za-z0-9]+)*$",
    )
    phrases: Path | None = setting(
        None,
        "A folder of further languages, one file `fr.toml` each. One named as a language of the package replaces some "
        "of its phrases.",
        unit="path of a folder",
    )
    model: str | None = setting(
        None,
        "The causal language model that words reasons anew after a list is out. What its evidence does not support is "
        "refused, and the template stays. Unset: templates alone.",
        unit="as `ranker.model`, but for `default`, `none` and an address",
    )
    device: Device = setting("auto", DEVICE_EFFECT)
    dtype: Dtype = setting("auto", DTYPE_EFFECT)
    items: int = setting(
        5, "How many items of a list, from the first on, the model words the reasons of.", unit="items", ge=1, le=100
    )
