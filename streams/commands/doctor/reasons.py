"""Check the phrases of reasons, the model that words them, and the one that reads wishes."""

from __future__ import annotations

from ranker.reasons.language import ENGLISH, LanguageError, Languages
from streams.commands.doctor.check import Check, not_loaded
from streams.settings import PREFIX, ReasonsSettings, WishesSettings


def check_reasons(settings: ReasonsSettings) -> list[Check]:
    """Check what the settings change; nothing by default."""
    checks = []
    if settings.phrases or settings.language != ENGLISH:
        name = f"reasons in {settings.language}"
        try:
            Languages(settings.language, settings.phrases)
            checks.append(Check(name, True, f"phrases: {settings.phrases or 'of the package'}"))
        except LanguageError as error:
            advice = f"correct {PREFIX}REASONS__LANGUAGE, or the files of {PREFIX}REASONS__PHRASES"
            checks.append(Check(name, False, str(error), advice))
    return [*checks, *_model("reasons", settings, "REASONS")]


def check_wishes(settings: WishesSettings) -> list[Check]:
    """Check the model that reads wishes, if there is one."""
    return _model("wishes", settings, "WISHES")


def _model(work: str, settings: ReasonsSettings | WishesSettings, group: str) -> list[Check]:
    if not settings.model:
        return []
    from ranker.reasons.generator import TextGenerator

    name = f"{work} by {settings.model}"
    try:
        placement = TextGenerator(settings.model, settings.device, settings.dtype).placement
    except Exception as error:  # noqa: BLE001  whatever the loading of a model raises is the result of the check
        return [not_loaded(name, error, group)]
    return [Check(name, True, f"{placement.dtype} on {placement.device}: {placement.reason}")]
