"""Count the tokens of texts that a model's vocabulary does not know, and log once where a ranker's share is large.

To a model that knows no letter of a script all titles in that script are alike. Its lists lose their order, and nobody
would see why. `streams.state.catalogue_languages` looks at the encoder's share.
"""

from __future__ import annotations

import logging

from encoders.models.files import MULTILINGUAL
from streams import metrics
from streams.settings import PREFIX

logger = logging.getLogger(__name__)

MAX_UNKNOWN = 0.05
MIN_TOKENS, RECENT_TOKENS = 500, 20_000
"""The share is computed from at least the first, some dozens of titles, and mostly from the latest few thousand."""


def count_tokens(reader: str, read: int, unknown: int) -> None:
    """Count tokens that the `encoder` or the `ranker` read, of which its vocabulary does not know some."""
    metrics.text_tokens.labels(reader, "yes").inc(read - unknown)
    metrics.text_tokens.labels(reader, "no").inc(unknown)


class Vocabulary:
    """The tokens that a ranker read.

    Parameters
    ----------
    model : str
        The model's name.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._read = self._unknown = 0.0
        self._warned = False

    def note(self, read: int, unknown: int) -> None:
        """Note that `read` tokens were read, and that `unknown` of them are unknown."""
        count_tokens("ranker", read, unknown)
        self._read += read
        self._unknown += unknown
        if self._read > RECENT_TOKENS:
            self._read, self._unknown = self._read / 2, self._unknown / 2
        share = self._unknown / max(1.0, self._read)
        if not self._warned and self._read >= MIN_TOKENS and share > MAX_UNKNOWN:
            self._warned = True
            logger.warning(
                "%s does not know %.0f%% of what recent texts say: items in a language that it was not made for look "
                "alike to it; choose a ranker for your languages (%sRANKER__MODEL), such as %s",
                self._model,
                100 * share,
                PREFIX,
                MULTILINGUAL,
            )
