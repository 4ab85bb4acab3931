"""The language of a list's reasons: that of the user's context. Knows no phrase."""

from __future__ import annotations

import logging
import re

from ranker.reasons.language import Language, Languages
from streams.contracts import LANGUAGE_KEY, RankRequest
from streams.rank import reason_metrics
from streams.settings import ReasonsSettings

logger = logging.getLogger(__name__)

MAX_LOGGED = 20
"""Unknown languages that are logged, each once; anybody may send any."""
LANGUAGE_TAG = re.compile("[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,2}")
"""What is logged; any other text may be a user's."""


class ListLanguage:
    """Finds the language of each list.

    Raises
    ------
    LanguageError
        The file of a language cannot be used.
    """

    def __init__(self, settings: ReasonsSettings) -> None:
        self._languages = Languages(settings.language, settings.phrases)
        self._default = settings.language
        self._logged: set[str] = set()

    def of(self, request: RankRequest) -> Language:
        """Return the language of the request's context; that of the settings if it is missing or unknown."""
        return self._languages.find(request.context.get(LANGUAGE_KEY) or self._default) or self._languages.default

    def note(self, request: RankRequest) -> Language:
        """Return the language of a list; count the list if that of the settings takes the place of an unknown one."""
        tag = request.context.get(LANGUAGE_KEY) or self._default
        if language := self._languages.find(tag):
            return language
        reason_metrics.unknown_language.inc()
        if LANGUAGE_TAG.fullmatch(tag) and tag not in self._logged and len(self._logged) < MAX_LOGGED:
            self._logged.add(tag)
            logger.warning(
                "context.language: got %r, which has no phrases; the reasons are in %r; add a file to the folder "
                "AFTERCLICK_REASONS__PHRASES",
                tag,
                self._default,
            )
        return self._languages.default
