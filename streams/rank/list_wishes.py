"""What the user's wishes do to a list, by the marks on its candidates: the state tier has read the items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UNSET, UnsetType

from ranker.rules.effects import MAX_MOVED, Effects
from ranker.wishes.effects import FACTORS, RULES
from ranker.wishes.grammar import HARD
from streams.contracts import Candidate, ListWish, RankRequest, WishClause

NOTHING_FITS = "got wishes that nothing fits, expected some item to fit all of them; take one back"
SHOWN_IN_REASONS = ("only", "more", "max-price", "min-price", "cheaper", "dearer")
"""The effects that an item of a list has because it fits the wish."""


def clauses_of(request: RankRequest) -> list[WishClause]:
    """Return the clauses of all wishes, in the order in which candidates number them."""
    return [clause for wish in request.wishes for clause in wish.clauses]


def are_hard(request: RankRequest) -> bool:
    """Return whether a wish may keep items out of the list."""
    return any(clause.effect in HARD for clause in clauses_of(request))


def kept_out(request: RankRequest) -> dict[int, str]:
    """Return the candidates that the list may not have: for the index of each the name of what the wish does."""
    clauses = clauses_of(request)
    if not clauses:
        return {}
    return {
        index: RULES[clauses[number].effect]
        for index, candidate in enumerate(request.candidates)
        for number in candidate.wishes[:1]
        if clauses[number].effect in HARD
    }


def add_factors(request: RankRequest, candidates: Sequence[Candidate], made: Effects) -> Effects:
    """Add to the effects of rules by what the wishes divide the candidates' ranks."""
    clauses = clauses_of(request)
    for index, candidate in enumerate(candidates):
        for number in candidate.wishes:
            effect = clauses[number].effect
            made.factors[index] = made.factors.get(index, 1.0) * FACTORS[effect]
            if RULES[effect] not in made.boosted.setdefault(index, []):
                made.boosted[index].append(RULES[effect])
    return made


def obeyed(request: RankRequest, moved: Mapping[str, Sequence[str]], is_empty: bool) -> list[ListWish] | UnsetType:
    """Return the wishes for the list's field `wishes`.

    Parameters
    ----------
    request : RankRequest
    moved : mapping of str to sequence of str
        By rule: the ids of the items that it moved, as the list's field `rules` has them.
    is_empty : bool
        Whether the list has no item: the hard wishes are answered then.
    """
    if not request.wishes:
        return UNSET
    effects = {effect: set(moved.get(rule, ())) for effect, rule in RULES.items()}
    marked = [candidate for candidate in request.candidates if candidate.wishes]
    wishes, first = [], 0
    for wish in request.wishes:
        numbers = {first + index: clause.effect for index, clause in enumerate(wish.clauses)}
        first += len(wish.clauses)
        items = [
            candidate.item_id
            for candidate in marked
            if any(candidate.item_id in effects[numbers[one]] for one in candidate.wishes if one in numbers)
        ]
        wishes.append(
            ListWish(
                wish_id=wish.wish_id,
                text=wish.text,
                clauses=wish.clauses,
                answer=NOTHING_FITS if is_empty and any(c.effect in HARD for c in wish.clauses) else wish.answer,
                expires_at=wish.expires_at,
                items=items[:MAX_MOVED],
            )
        )
    return wishes


def fitting(request: RankRequest, candidate: Candidate) -> list[str]:
    """Return what the wishes say that an item of the list fits, in words.

    An item that is in the list fits every hard clause. A pinned item, which the state tier has not read, fits none.
    """
    if not request.wishes or not candidate.text:
        return []
    return [
        clause.words
        for number, clause in enumerate(clauses_of(request))
        if clause.effect in SHOWN_IN_REASONS and (clause.effect in HARD or number in candidate.wishes)
    ]
