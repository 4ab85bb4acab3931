"""How a user's text about an item sounds, from -1 for a bad review to 1 for a good one.

By VADER (Hutto and Gilbert 2014), a lexicon with rules for negation, emphasis and punctuation, as `vaderSentiment` has
it: English alone, and 0.1 ms a text. A classifier needs weights that no package brings, and the rank model would need a
second pass for each event. Knows no event.
"""

from __future__ import annotations

from collections.abc import Callable

from encoders.errors import AfterclickError

Sentiment = Callable[[str], float]
LEAST_BAD = -0.05
"""From which score downwards a text is bad: the limit that VADER's authors give."""
PLAINLY_BAD = -0.5
"""From which score downwards a text is as bad as can be; chosen by us: VADER adds up words, and a sentence has few.
Half of the bad reviews of the tests score less."""


class SentimentMissing(AfterclickError):
    """The package that judges texts is not installed."""


def english() -> Sentiment:
    """Return what judges English texts.

    Raises
    ------
    SentimentMissing
        `vaderSentiment` is not installed.

    >>> judge = english()
    >>> judge("Broke after two days, a waste of money.") < 0 < judge("Not bad at all, I love it!")
    True
    >>> judge("size 42")
    0.0
    """
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ModuleNotFoundError as error:
        raise SentimentMissing(
            f"{error.name}: got no such package, expected it to judge reviews; pip install 'afterclick[reviews]'"
        ) from error
    analyzer = SentimentIntensityAnalyzer()

    def judge(text: str) -> float:
        return float(analyzer.polarity_scores(text)["compound"])

    return judge
