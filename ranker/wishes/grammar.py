"""What a wish can say: the small grammar that every parser fills, and its meaning in plain words.

A wish is some clauses and perhaps an end. Each clause is one effect, about words that items have or about prices. There
is nothing else in the grammar, so no text can do more. Knows no item and no parser.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Literal

import msgspec

Effect = Literal["exclude", "only", "more", "less", "max-price", "min-price", "cheaper", "dearer"]
EFFECTS: tuple[Effect, ...] = ("exclude", "only", "more", "less", "max-price", "min-price", "cheaper", "dearer")
ABOUT_WORDS = ("exclude", "only", "more", "less")
BOUNDS = ("max-price", "min-price")
HARD = ("exclude", "only", *BOUNDS)
"""Effects that keep items out of a list. The others give items another rank."""
MAX_CLAUSES = 8
MAX_ALTERNATIVES = 8
MAX_WORDS = 4
"""Of one alternative. These three are chosen by us: a longer wish is two wishes."""
MAX_WORD = 40
MAX_PRICE = 1e9
_LEADS = {"exclude": "nothing with", "only": "only", "more": "more", "less": "less"}


class Clause(msgspec.Struct, array_like=True, frozen=True):
    """One effect.

    Attributes
    ----------
    effect : str
        One of `EFFECTS`.
    any_of : tuple of tuple of str
        Of an effect about words: an item is meant that has all words of one of these.
    price : float, optional
        Of a bound.
    currency : str
        Of a bound: a code of ISO 4217; empty for a number alone.
    """

    effect: Effect
    any_of: tuple[tuple[str, ...], ...] = ()
    price: float | None = None
    currency: str = ""

    @property
    def words(self) -> str:
        """What the clause says.

        >>> Clause("exclude", (("fur",), ("real", "leather"))).words, Clause("max-price", (), 50.0, "EUR").words
        ('nothing with fur or real leather', 'at most 50 EUR')
        """
        if self.effect in BOUNDS:
            return f"at {'most' if self.effect == 'max-price' else 'least'} {self.price:g} {self.currency}".rstrip()
        if self.effect not in ABOUT_WORDS:
            return {"cheaper": "cheaper", "dearer": "more expensive"}[self.effect]
        return f"{_LEADS[self.effect]} {' or '.join(map(' '.join, self.any_of))}"

    @property
    def problem(self) -> str:
        """What is wrong with the clause; empty if nothing is. Parsers check what they made by this."""
        is_bound = self.effect in BOUNDS
        if is_bound != (self.price is not None) or (self.price is not None and not 0 <= self.price <= MAX_PRICE):
            return f"got the price {self.price!r}, expected one from 0 to {MAX_PRICE:g} for a bound and none otherwise"
        if self.currency and not (is_bound and len(self.currency) == 3 and self.currency.isalpha()):
            return f"got the currency {self.currency!r}, expected a code of three letters"
        if bool(self.any_of) != (self.effect in ABOUT_WORDS) or len(self.any_of) > MAX_ALTERNATIVES:
            return f"got {len(self.any_of)} alternatives, expected 1 to {MAX_ALTERNATIVES}"
        if any(not 0 < len(one) <= MAX_WORDS or not all(0 < len(w) <= MAX_WORD for w in one) for one in self.any_of):
            return f"got {self.any_of!r}, expected 1 to {MAX_WORDS} words of at most {MAX_WORD} letters"
        return ""


class Wish(msgspec.Struct, array_like=True, frozen=True):
    """What was understood.

    Attributes
    ----------
    clauses : tuple of Clause
        All of them apply.
    expires_ms : int, optional
        Up to when (milliseconds since the epoch); None: until it is revoked.
    """

    clauses: tuple[Clause, ...]
    expires_ms: int | None = None


def in_words(wish: Wish) -> str:
    """Return what was understood.

    >>> in_words(Wish((Clause("only", (("vegan",),)), Clause("cheaper")), 1_790_000_000_000))
    'only vegan; cheaper; until 2026-09-21 14:13 UTC'
    """
    parts = [clause.words for clause in wish.clauses]
    if wish.expires_ms is not None:
        parts.append(f"until {datetime.fromtimestamp(wish.expires_ms / 1000, timezone.utc):%Y-%m-%d %H:%M} UTC")
    return "; ".join(parts)
