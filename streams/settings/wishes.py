"""Settings of what users wish in words: the model that reads what the patterns do not know. Loads no model."""

from __future__ import annotations

from streams.settings.group import SettingsGroup, setting
from streams.settings.recommending import DEVICE_EFFECT, DTYPE_EFFECT, Device, Dtype


class WishesSettings(SettingsGroup):
    """How wishes of users are read."""

    model: str | None = setting(
        None,
        "The causal language model that reads the wishes which the patterns do not understand, in any language that it "
        "knows. What it says counts only within the grammar of wishes, and only if it covers the user's words. Unset: "
        "patterns alone, which read English.",
        unit="as `ranker.model`, but for `default`, `none` and an address",
    )
    device: Device = setting("auto", DEVICE_EFFECT)
    dtype: Dtype = setting("auto", DTYPE_EFFECT)
