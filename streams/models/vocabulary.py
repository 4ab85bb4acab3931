"""How much of what texts say a model's vocabulary does not know: counted, and told once where it is a lot.

To a model that knows no letter of a script all titles in it are alike: its lists lose their order, and nobody would
see why.
"""

from __future__ import annotations

import logging

from streams import metrics

logger = logging.getLogger(__name__)

MOST_UNKNOWN = 0.05
LEAST_TOKENS, RECENT_TOKENS = 500, 20_000
"""By how many tokens a share is judged: some dozens of titles at least, and then the latest few thousand."""


class Vocabulary:
    """The tokens that one model read.

    Parameters
    ----------
    reader : `encoder` or `ranker`.
    setting : where the model is chosen.
    """

    def __init__(self, reader: str, model: str, setting: str) -> None:
        self._metric = {known: metrics.text_tokens.labels(reader, known) for known in ("yes", "no")}
        self._model = model
        self._setting = setting
        self._read = self._unknown = 0.0
        self._told = False

    def note(self, read: int, unknown: int) -> None:
        """So many tokens were read, and so many of them are unknown."""
        self._metric["yes"].inc(read - unknown)
        self._metric["no"].inc(unknown)
        self._read += read
        self._unknown += unknown
        if self._read > RECENT_TOKENS:
            self._read, self._unknown = self._read / 2, self._unknown / 2
        share = self._unknown / max(1.0, self._read)
        if not self._told and self._read >= LEAST_TOKENS and share > MOST_UNKNOWN:
            self._told = True
            logger.warning(
                "%s does not know %.0f%% of what recent texts say: items in a language that it was not made for look "
                "alike to it; choose a model for your languages (%s), such as "
                "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
                self._model,
                100 * share,
                self._setting,
            )
