"""Count the tokens of texts that a model's vocabulary does not know, and log once where their share is large.

To a model that knows no letter of a script all titles in that script are alike. Its lists lose their order, and nobody
would see why.
"""

from __future__ import annotations

import logging

from streams import metrics

logger = logging.getLogger(__name__)

MAX_UNKNOWN = 0.05
MIN_TOKENS, RECENT_TOKENS = 500, 20_000
"""The share is computed from at least the first, some dozens of titles, and mostly from the latest few thousand."""


class Vocabulary:
    """The tokens that one model read.

    Parameters
    ----------
    reader : str
        `encoder` or `ranker`.
    model : str
        The model's name.
    setting : str
        The setting that chooses the model.
    """

    def __init__(self, reader: str, model: str, setting: str) -> None:
        self._metric = {known: metrics.text_tokens.labels(reader, known) for known in ("yes", "no")}
        self._model = model
        self._setting = setting
        self._read = self._unknown = 0.0
        self._warned = False

    def note(self, read: int, unknown: int) -> None:
        """Note that `read` tokens were read, and that `unknown` of them are unknown."""
        self._metric["yes"].inc(read - unknown)
        self._metric["no"].inc(unknown)
        self._read += read
        self._unknown += unknown
        if self._read > RECENT_TOKENS:
            self._read, self._unknown = self._read / 2, self._unknown / 2
        share = self._unknown / max(1.0, self._read)
        if not self._warned and self._read >= MIN_TOKENS and share > MAX_UNKNOWN:
            self._warned = True
            logger.warning(
                "%s does not know %.0f%% of what recent texts say: items in a language that it was not made for look "
                "alike to it; choose a model for your languages (%s), such as "
                "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
                self._model,
                100 * share,
                self._setting,
            )
