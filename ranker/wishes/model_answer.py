"""Ask a causal language model what a wish says, and take from its answer what can be checked.

The answer is one line of JSON within the grammar of wishes. It counts only if it is grounded: the words and numbers of
each clause stand in the user's text, each clause quotes the part of the text that says it, and the quotes cover the
whole text. So a model, or a text that talks a model into something, can invent no clause about other things and leave
out no part of a wish. Knows no model.
"""

from __future__ import annotations

import re
from datetime import tzinfo
from typing import Literal

import msgspec

from ranker.wishes.grammar import ABOUT_WORDS, BOUNDS, MAX_CLAUSES, Clause, Effect, Wish
from ranker.wishes.patterns import currency_of, end_of, number_of
from ranker.wishes.words import folded, tokens

CAUSES = ("form", "invented", "incomplete")
"""Why an answer does not count: it is outside the grammar, says what the text does not, or leaves a part of it out."""
Cause = Literal["form", "invented", "incomplete"]
MAX_TEXT = 300
"""Characters of a wish that a model is asked about; chosen by us: its answer quotes them in 96 tokens."""
_PROMPT = """A shopper says a wish about a list of recommended items. Translate it to one line of JSON.
effects: exclude, only, more, less (of: words of items), max-price, min-price (of: a number and a currency), cheaper, dearer.
quote: the part of the wish that says it, letter by letter. until: the words for its end, or null.

Wish: I'm allergic to nuts, and please nothing above 20 euros this week
JSON: {"clauses":[{"effect":"exclude","of":"nuts","quote":"I'm allergic to nuts"},{"effect":"max-price","of":"20 euros","quote":"nothing above 20 euros"}],"until":"this week"}

Wish: my kids would enjoy dinosaurs
JSON: {"clauses":[{"effect":"more","of":"dinosaurs","quote":"my kids would enjoy dinosaurs"}],"until":null}

Wish: I can't afford these
JSON: {"clauses":[{"effect":"cheaper","of":"","quote":"I can't afford these"}],"until":null}

Wish: what is the weather
JSON: {"clauses":[],"until":null}

Wish: """  # noqa: E501 - a line of the prompt is a line
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_IDLE = frozenset("please and but also so then thanks thank you hi hello".split())  # noqa: SIM905


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    effect: Effect
    quote: str
    of: str = ""


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    clauses: list[_Said]
    until: str | None = None


_decoder = msgspec.json.Decoder(_Answer)


def prompt(text: str) -> str:
    """Return what the model is asked about a wish, in one line."""
    return f"{_PROMPT}{' '.join(text.split())}\nJSON:"


def read(answer: str, text: str, made_ms: int, zone: tzinfo) -> Wish | Cause:
    """Return what the answer says, if all of it is grounded; else why it does not count.

    Parameters
    ----------
    answer : str
        The first line of what the model wrote.
    text, made_ms, zone
        The wish, see `patterns.parse`.
    """
    try:
        said = _decoder.decode(answer)
    except (msgspec.DecodeError, RecursionError):
        return "form"
    if not 0 < len(said.clauses) <= MAX_CLAUSES:
        return "form"
    wanted = " ".join(folded(text).split())
    expires_ms = end_of(said.until, made_ms, zone) if said.until else None
    if said.until and (expires_ms is None or folded(said.until) not in wanted):
        return "invented"
    clauses = []
    for one in said.clauses:
        quote = " ".join(folded(one.quote).split())
        if not quote or quote not in wanted:
            return "invented"
        clause = _clause(one)
        if clause is None:
            return "form"
        if not all(folded(word) in quote for words in clause.any_of for word in words):
            return "invented"
        if clause.price is not None and not set(_NUMBER.findall(one.of)) <= set(_NUMBER.findall(quote)):
            return "invented"
        clauses.append(clause)
    said_numbers = _NUMBER.findall(" ".join([*(one.of for one in said.clauses), said.until or ""]))
    if not set(_NUMBER.findall(wanted)) <= set(said_numbers):
        return "incomplete"
    quotes = [*(folded(one.quote) for one in said.clauses), folded(said.until or "")]
    if not _covered(wanted, [" ".join(quote.split()) for quote in quotes]):
        return "incomplete"
    return Wish(tuple(dict.fromkeys(clauses)), expires_ms)


def _clause(said: _Said) -> Clause | None:
    """The clause that the model names; None for one outside the grammar."""
    if said.effect in BOUNDS:
        price = number_of(said.of)
        clause = Clause(said.effect, (), price, currency_of(said.of))
    elif said.effect in ABOUT_WORDS:
        alternatives = re.split(r"\s+or\s+|\s*[,/]\s*", folded(said.of))
        clause = Clause(said.effect, tuple(tuple(tokens(one)) for one in alternatives))
    else:
        clause = Clause(said.effect)
    return None if clause.problem else clause


def _covered(text: str, quotes: list[str]) -> bool:
    """Whether every word of a text that says something lies in a quote."""
    for quote in sorted(filter(None, quotes), key=len, reverse=True):
        text = text.replace(quote, " ")
    return _IDLE.issuperset(tokens(text))
