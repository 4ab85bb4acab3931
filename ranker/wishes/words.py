"""The words of items and of wishes, so that a wish for "no shoes" finds a "shoe".

A word is compared in lower case and without the ending of an English plural. What an item's text denies ("fur-free",
"without fur", "vegan: no") it does not have. Knows no wish.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_DENYING = frozenset({"no", "not", "non", "without", "zero", "anti"})
_LACKING = frozenset({"free", "less"})
_UNSPACED = re.compile(r"[⺀-鿿가-힯]")
"""Letters of scripts that put no blanks between words: there a word is looked for inside a run of letters."""


def folded(text: str) -> str:
    """Return a text in the form in which words are compared."""
    return unicodedata.normalize("NFKC", text).casefold().replace("’", "'")


def tokens(text: str) -> list[str]:
    """Return the words of a folded text, as they are written.

    >>> tokens(folded("Don't show ME faux-fur coats!"))
    ["don't", 'show', 'me', 'faux-fur', 'coats']
    """
    return _TOKEN.findall(text)


def stem(word: str) -> str:
    """Return a word without the ending of an English plural.

    >>> [stem(word) for word in ("shoes", "dresses", "berries", "berry", "glass", "cactus", "gas")]
    ['shoe', 'dress', 'berri', 'berri', 'glass', 'cactus', 'gas']
    """
    if not word.isascii() or len(word) < 4:
        return word
    if word.endswith("ies"):
        return word[:-2]
    if word[-1] == "y" and word[-2] not in "aeiou":
        return f"{word[:-1]}i"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def has_any(text: str, any_of: Sequence[Sequence[str]]) -> bool:
    """Return whether a text has all words of one of these alternatives.

    >>> has_any("Coats with faux fur", [("leather",), ("fur", "coat")]), has_any("Fur-free coat", [("fur",)])
    (True, False)
    >>> has_any("A soap. vegan: no; scent: rose", [("vegan",)]), has_any("Tea without sugar", [("sugar",)])
    (False, False)
    """
    searched = folded(text)
    found: frozenset[str] | None = None
    for alternative in any_of:
        words = [stem(folded(word)) for word in alternative]
        if not all(word.rstrip("i") in searched for word in words):
            continue  # nearly every item: this is what a wish costs
        found = frozenset(_stated(searched)) if found is None else found
        if all(word in found or _UNSPACED.search(word) for word in words):
            return True
    return False


def _stated(text: str) -> Iterator[str]:
    """The stems of the words that a folded text states, and does not deny; of a compound its parts as well."""
    matches = list(_TOKEN.finditer(text))
    for index, match in enumerate(matches):
        word = match[0]
        after = matches[index + 1][0] if index + 1 < len(matches) else ""
        gap = text[match.end() : matches[index + 1].start()] if after else ""
        if index and matches[index - 1][0] in _DENYING and text[matches[index - 1].end() : match.start()] == " ":
            continue
        if (after == "no" and gap == ": ") or (after == "free" and gap == " "):
            continue
        yield stem(word)
        parts = re.split("['-]", word)
        if len(parts) > 1 and parts[0] not in _DENYING and parts[-1] not in _LACKING:
            yield from map(stem, parts)
