"""Read a wish by patterns of English: the parser where no text model is configured. It guesses nothing.

A wish is split at commas, "and" and "but". Each part has to be one of the forms below as a whole, or the whole wish is
not understood. A part without a form of its own continues the one before it in the same sentence ("no fur, leather or
wool"). X is one to four words of items.

    exclude    no X, nothing with X, without X, not X, avoid X, hide X, I hate X, I don't want X, X-free
    only       only X, X only, nothing but X
    more       more X, I like X, I love X, I prefer X
    less       less X, fewer X, not so much X
    prices     under 50 EUR, at most 50, over 20 EUR, between 20 and 50 EUR, cheaper, more expensive
    end        today, tonight, this week, this month, for 3 days, until 2026-12-24, until Friday

Knows no item: whether X is a word of one is seen when a list is made.
"""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta, tzinfo

from ranker.wishes.grammar import MAX_CLAUSES, Clause, Effect, Wish
from ranker.wishes.words import folded, tokens

MAX_CHARACTERS = 500
"""Of a wish; chosen by us: a longer one is a letter."""
EXAMPLES = '"nothing with fur this week", "only vegan", "more jazz", "less football", "under 50 EUR" or "cheaper"'
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_UNITS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1), "month": timedelta(days=30)}
_NUMBER = r"(?P<number>\d{1,3}|an?|one|two|three)"
_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3}
_END = re.compile(
    r"\b(?:(?:for |only )?(?P<now>today|tonight|this (?:week|month))"
    rf"|(?:for|in) (?:the next )?{_NUMBER} (?P<unit>hour|day|week|month)s?"
    rf"|until (?P<date>\d{{4}}-\d\d-\d\d|tomorrow|{'|'.join(_WEEKDAYS)}))\b"
)
_CURRENCIES = {
    **dict.fromkeys(("€", "eur", "euro", "euros"), "EUR"),
    **dict.fromkeys(("$", "usd", "dollar", "dollars"), "USD"),
    **dict.fromkeys(("£", "gbp", "pound", "pounds"), "GBP"),
    **dict.fromkeys(("¥", "jpy", "yen"), "JPY"),
    **dict.fromkeys(("chf", "francs"), "CHF"),
    **dict.fromkeys(("cny", "yuan", "rmb"), "CNY"),
}
_SIGN = "|".join(re.escape(sign) for sign in sorted(_CURRENCIES, key=len, reverse=True))


def _amount(name: str) -> str:
    money = rf"(?P<{name}>\d{{1,9}}(?:[.,]\d{{1,2}})?)"
    return rf"(?:(?P<{name}_before>{_SIGN})\s?)?{money}(?:\s?(?P<{name}_after>{_SIGN})(?!\w))?"


_BETWEEN = re.compile(rf"\b(?:only )?(?:between|from) {_amount('low')} (?:and|to) {_amount('high')}")
_BELOW = "under|below|less than|at most|max(?:imum)?|up to|cheaper than|not (?:more|over|above) than|no more than"
_ABOVE = "over|above|more than|at least|min(?:imum)?|not (?:less|below|under) than|no less than|more expensive than"
_BOUND = re.compile(
    rf"(?:\b(?P<none>nothing|not|no items?) |\b(?:only |everything )?)(?:(?P<below>{_BELOW})|(?P<above>{_ABOVE})) "
    rf"{_amount('price')}"
)
_STOPS = frozenset(";.!?")
_BREAK = re.compile(r"\s*(?:([;.!?])|[,&]|\band\b|\bbut\b(?<!nothing but)(?<!anything but)(?<!everything but))\s*")
_LEAD = re.compile(
    r"^(?:please|hi|hello|can you|could you|show me|give me|recommend(?: me)?|i want|i'd like|i would like|i need|"
    r"i am looking for|i'm looking for|also|now|just)\s+"
)
_TAIL = re.compile(r"\s+(?:please|thanks|thank you|for me)$")
_VAGUE = r"(?:something |anything |things |stuff |a bit |a little |much |some )*"
_THINGS = r"(?: (?:things|items|ones|stuff|products))?"
_SOFT_PRICES: tuple[tuple[str, Effect], ...] = (
    (
        rf"{_VAGUE}(?:cheaper|less expensive|not (?:so|too|that) expensive|more affordable|lower prices){_THINGS}",
        "cheaper",
    ),
    (rf"{_VAGUE}(?:more expensive|pricier|higher prices){_THINGS}", "dearer"),
)
_DONT = r"i (?:don't|do not|never) (?:want|like|need|eat|drink|wear|buy|read|watch)(?: to see)?"
_FORMS: tuple[tuple[str, Effect], ...] = (
    (r"nothing but (?P<x>.+)", "only"),
    (r"(?:less|fewer|not so much|not so many|not as much|not as many) (?P<x>.+)", "less"),
    (rf"(?:no more|no|not|none of|nothing (?:with|of|from|made of|made from|containing|by|in|about|like|for)|nothing|"
     rf"without|avoid|exclude|hide|skip|never|stop showing(?: me)?|don't show(?: me)?|do not show(?: me)?|{_DONT}|"
     rf"i hate|i dislike|i am allergic to|i'm allergic to|anything but|everything but|free of) (?P<x>.+)", "exclude"),
    (r"(?P<x>\S+)-free(?: (?:only|items|things))?", "exclude"),
    (r"only (?P<x>.+)", "only"),
    (r"(?P<x>.+) only", "only"),
    (r"(?:more|i (?:really )?(?:like|love|prefer|enjoy)) (?P<x>.+)", "more"),
)  # fmt: skip
_FILLERS = frozenset(
    """
    a an any the some of with from for by in to anything things thing stuff items item products product ones made
    containing about like see that is are
    """.split()  # noqa: SIM905 - a hundred quotation marks would hide the words
)
"""Words in X that say nothing of an item."""
_LOGIC = frozenset(
    """
    no not nothing none never without only just but except unless if because than more less fewer most least
    cheap expensive cheaper price prices under over above below until i me my you your we us our he she they
    don't isn't won't can't should must want need show ignore delete forget everything all always this today
    tonight tomorrow before after hour hours day days week weeks month months year
    """.split()  # noqa: SIM905 - a hundred quotation marks would hide the words
)
"""Words that change what a part says."""
_SAID_OF_LISTS = _LOGIC.union(_WEEKDAYS, _CURRENCIES)
"""An X with one of these is not understood: it would be half of a wish."""
_PRICED = "\0"
"""Stands in a part for the price that it named."""


def parse(text: str, made_ms: int, zone: tzinfo) -> Wish | str:
    """Read a wish.

    Parameters
    ----------
    text : str
        What the user wrote.
    made_ms : int
        When, in milliseconds since the epoch.
    zone : tzinfo
        Says when a day ends.

    Returns
    -------
    Wish or str
        If the wish is not understood: why, for the user.
    """
    if len(text) > MAX_CHARACTERS:
        return f"got {len(text):,} characters, expected at most {MAX_CHARACTERS}; say it shorter"
    rest = " ".join(folded(text).replace(_PRICED, " ").split()).strip(" .!?")
    end = _END.search(rest)
    if end:
        rest = f"{rest[: end.start()]}{rest[end.end() :]}"
    expires_ms = _end_ms(end, made_ms, zone) if end else None
    if end and expires_ms is None:
        return _not_understood(end[0])
    clauses: list[Clause] = []
    for pattern in (_BETWEEN, _BOUND):
        while match := pattern.search(rest):
            clauses += _bounds(match)
            rest = f"{rest[: match.start()]}{_PRICED}{rest[match.end() :]}"
    effect: Effect | None = None
    for part in filter(None, _BREAK.split(rest)):
        if part in _STOPS:
            effect = None
        words = _bare(part.replace(_PRICED, " "))
        if not words or part in _STOPS:
            continue
        clause = _clause(words, effect)
        if clause is None:
            return _not_understood(words)
        if _PRICED in part and clause.effect != "only":  # "no shoes under 50" bounds no other price
            return _not_understood(text)
        clauses.append(clause)
        effect = clause.effect if clause.any_of else None
    if not clauses:
        return _not_understood(text)
    if len(clauses) > MAX_CLAUSES:
        return f"got {len(clauses)} wishes in one, expected at most {MAX_CLAUSES}; say some of them later"
    return Wish(tuple(dict.fromkeys(clauses)), expires_ms)


def _bare(part: str) -> str:
    """A part without what only makes it polite."""
    before = ""
    while part != before:
        before, part = part, _TAIL.sub("", _LEAD.sub("", part.strip()))
    return "" if part in ("please", "thanks", "thank you", "only") else part


def _clause(part: str, effect: Effect | None) -> Clause | None:
    """The clause that a part says; `effect` is that of the part before it. None if it says none."""
    for pattern, soft in _SOFT_PRICES:
        if re.fullmatch(pattern, part):
            return Clause(soft)
    for pattern, found in _FORMS:
        if match := re.fullmatch(pattern, part):
            return _about(found, match["x"])
    return _about(effect, part) if effect else None


def _about(effect: Effect, text: str) -> Clause | None:
    """The clause about words; None if they are too many or change what it says."""
    any_of = []
    for alternative in re.split(r"\s+or\s+|\s*/\s*", text):
        written = tokens(alternative)
        words = tuple(word for word in written if word not in _FILLERS)
        if not _SAID_OF_LISTS.isdisjoint(words) or "".join(written) != re.sub(r"[\s\"“”]", "", alternative):
            return None
        any_of.append(words)
    clause = Clause(effect, tuple(any_of))
    return None if clause.problem else clause


def _bounds(match: re.Match[str]) -> list[Clause]:
    """The clauses of a price, or of two."""
    found = match.groupdict()
    if "low" in found:
        currency = _currency(found, "low") or _currency(found, "high")
        low, high = sorted((_number(found["low"]), _number(found["high"])))
        return [Clause("min-price", (), low, currency), Clause("max-price", (), high, currency)]
    is_most = (found["below"] is not None) != (found["none"] is not None)
    return [Clause("max-price" if is_most else "min-price", (), _number(found["price"]), _currency(found, "price"))]


def _number(digits: str) -> float:
    return float(digits.replace(",", "."))


def _currency(found: dict[str, str], name: str) -> str:
    return _CURRENCIES.get(found[f"{name}_before"] or found[f"{name}_after"] or "", "")


def end_of(text: str, made_ms: int, zone: tzinfo) -> int | None:
    """Return when a wish of this end expires (milliseconds); None if the text names no end.

    >>> from datetime import timezone
    >>> end_of("This week", 1_790_000_000_000, timezone.utc), end_of("soon", 0, timezone.utc)
    (1790553600000, None)
    """
    match = _END.fullmatch(folded(text).strip())
    return _end_ms(match, made_ms, zone) if match else None


def number_of(text: str) -> float | None:
    """Return the only number in a text; None if there is not one."""
    found = re.findall(r"\d{1,9}(?:[.,]\d{1,2})?", text)
    return _number(found[0]) if len(found) == 1 else None


def currency_of(text: str) -> str:
    """Return the code of the currency that a text names beside a number; empty for none.

    >>> currency_of("20 euros"), currency_of("$5"), currency_of("20")
    ('EUR', 'USD', '')
    """
    return _CURRENCIES.get(re.sub(r"[\d.,\s]", "", folded(text)), "")


def _end_ms(match: re.Match[str], made_ms: int, zone: tzinfo) -> int | None:
    """When a wish ends; None for a date that there is not."""
    made = datetime.fromtimestamp(made_ms / 1000, zone)
    if match["unit"]:
        number = _NUMBERS.get(match["number"]) or int(match["number"])
        return made_ms + round(number * _UNITS[match["unit"]].total_seconds() * 1000)
    day, now = made.date(), match["now"]
    if now == "this week":
        day += timedelta(days=6 - day.weekday())
    elif now == "this month":
        day = (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    elif match["date"] == "tomorrow":
        day += timedelta(days=1)
    elif match["date"] in _WEEKDAYS:
        day += timedelta(days=(_WEEKDAYS.index(match["date"]) - day.weekday()) % 7)
    elif match["date"]:
        try:
            day = datetime.strptime(match["date"], "%Y-%m-%d").date()
        except ValueError:
            return None
    midnight = datetime.combine(day, time(), zone) + timedelta(days=1)
    return round(midnight.timestamp() * 1000)


def _not_understood(part: str) -> str:
    quoted = part.strip()
    quoted = quoted if len(quoted) <= 60 else f"{quoted[:59]}…"
    return f"got {quoted!r}, which says nothing that is understood; nothing was changed. Say it like {EXAMPLES}"
