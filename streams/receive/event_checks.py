"""Check what no schema says of an event: its type has a weight, its rating is on its scale, its text is not blank.

Pure functions; they know no settings.
"""

from __future__ import annotations

from collections.abc import Collection

from encoders.text.blank_text import is_blank
from streams.contracts import Impression, Preference, Purchase, RankRequest, Search, UserEvent
from streams.receive.message import BadMessage

Checked = UserEvent | Search | Preference | Impression | RankRequest


def check_meaning(decoded: Checked, types: Collection[str] | None) -> None:
    """Check an event, a search, a preference, an impression, or the history and the wishes of a request.

    Parameters
    ----------
    decoded : Checked
    types : collection of str, optional
        The types that have a weight; None: any may have one.

    Raises
    ------
    BadMessage
        A type has no weight, a rating is off its scale, the text of a search is blank, a preference says nothing or two
        things, an impression has another number of propensities than of items, or a candidate names a clause that no
        wish has.
    """
    if isinstance(decoded, RankRequest):
        for index, event in enumerate(decoded.history):
            _check_type(event.type, types, f"rank-requests: history[{index}].type")
        _check_wishes(decoded)
    elif isinstance(decoded, Search):
        if is_blank(decoded.text):
            raise BadMessage("invalid", "searches: text: got a blank text, expected what the user typed", "text blank")
    elif isinstance(decoded, Impression):
        if decoded.propensities and len(decoded.propensities) != len(decoded.items):
            raise BadMessage(
                "invalid",
                f"impressions: propensities: got {len(decoded.propensities)} for {len(decoded.items)} items, expected "
                "one for each item, in their order; send those of the list, or none",
                "number of propensities",
            )
    elif isinstance(decoded, Preference):
        if (decoded.text is None) == (decoded.revoke is None):
            got = "neither" if decoded.text is None else "both"
            error = f"preferences: got {got} of text and revoke, expected one of them; send two messages for both"
            raise BadMessage("invalid", error, "not one of text and revoke")
    else:
        _check_type(decoded.type, types, "events: type")
        _check_rating(decoded)


def check_quantity(purchase: Purchase) -> None:
    """Check that a purchase has a number of pieces, and that a return names the purchase.

    Raises
    ------
    BadMessage
        The quantity is 0 or no number, or it does not fit `takes_back`.
    """
    quantity, named = purchase.quantity, purchase.takes_back
    if not (quantity > 0 or quantity < 0):
        problem = f"quantity: got {quantity:g}, expected a number above 0, or below 0 for a return"
    elif quantity < 0 and named is None:
        problem = (
            f"takes_back: got none with quantity {quantity:g}, expected the event_id of a purchase; a return has both"
        )
    elif quantity > 0 and named is not None:
        problem = f"quantity: got {quantity:g} with takes_back {named!r}, expected one below 0; a return has both"
    else:
        return
    raise BadMessage("invalid", f"purchases: {problem}", "quantity")


def _check_type(type_: str, types: Collection[str] | None, where: str) -> None:
    if types is not None and type_ not in types:
        raise BadMessage(
            "type",
            f"{where}: got {type_!r}, which has no weight, expected one of {', '.join(types)}; give it one, such as "
            f"AFTERCLICK_INTEREST__WEIGHTS={type_}=1, negative for less of the same, or map it to one of these",
            "type without a weight",
        )


def _check_wishes(request: RankRequest) -> None:
    clauses = sum(len(wish.clauses) for wish in request.wishes)
    for index, candidate in enumerate(request.candidates):
        if candidate.wishes and max(candidate.wishes) >= clauses:
            raise BadMessage(
                "invalid",
                f"rank-requests: candidates[{index}].wishes: got {max(candidate.wishes)}, expected numbers below "
                f"{clauses}, of the clauses in wishes; correct the number",
                "candidates[].wishes without a clause",
            )


def _check_rating(event: UserEvent) -> None:
    if event.type == "search":
        error = "events: type: got 'search', expected a type of an event about an item; send searches to searches"
        raise BadMessage("invalid", error, "a search in events")
    if event.rating is None:
        if event.type == "rating":
            error = "events: rating: got none, expected 1 to best_rating; send the number"
            raise BadMessage("invalid", error, "rating missing")
    elif event.rating > event.best_rating:
        raise BadMessage(
            "invalid",
            f"events: rating: got {event.rating:g}, expected 1 to {event.best_rating:g}; send best_rating, the best of "
            "your scale",
            "rating above best_rating",
        )
