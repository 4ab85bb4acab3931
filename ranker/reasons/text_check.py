"""Check a language model's text against the grounds of a reason: every claim in it has to be one of theirs.

A text passes if it is made of the phrases that its language has for these grounds, such as `you viewed {titles}`, and
of words that claim nothing. A name stands inside such a phrase or nowhere. So a text names no other item, no number and
no attribute, and it says of each name what is true of it, whatever the titles asked the model to say. Knows no model.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from ranker.reasons.grounds import Grounds
from ranker.reasons.language import Language

CAUSES = ("empty", "long", "name", "number", "claim", "form", "no-evidence")
"""Why a text is refused: it is empty, or longer than `MAX_CHARACTERS`; what it has in quotation marks is no name of the
evidence; a number stands outside the names; other words are no phrase of the grounds; a name is there twice, or a
phrase twice in a row; nothing of the evidence is named."""
MAX_CHARACTERS = 400
"""Of a text; chosen by us: three names of 100 characters and a line of words."""
WORDED = ("because", "together", "searched", "both")
"""The kinds of grounds that have phrases. The others say little that could be worded in another way."""
QUOTES = '"“”„‟«»‹›「」『』《》〈〉'
_APOSTROPHES = {ord(mark): "'" for mark in "’‘ʼ"}
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
"""Letters of scripts that put no blanks between words: Thai, Lao, Burmese, Khmer, kana, Chinese characters."""
_ENDS = ".!。！ "
_CODES = {"titles": 0xE000, "category": 0xE010, "name": 0xE020, "search": 0xE030}
"""In a text under check a character of Unicode's private area stands for each name, of 16 for each kind of names."""
_NAME = {kind: f"[{chr(code)}-{chr(code + 15)}]" for kind, code in _CODES.items()}


class CheckedText(NamedTuple):
    """A text that passed.

    Attributes
    ----------
    text : str
        With the quotation marks of the language around names.
    evidence : tuple of str
        Ids of the items that it names.
    """

    text: str
    evidence: tuple[str, ...]


class Refused(NamedTuple):
    """A text that did not pass: one of `CAUSES`, and the part that is wrong."""

    cause: str
    part: str


def is_worded(grounds: Grounds, language: Language) -> bool:
    """Return whether a model's text may say these grounds in this language.

    Not with a name that has a quotation mark of the language in it: a reader could not tell where such a name ends.
    """
    names = _names(grounds).values()
    readable = all(name and not set(name) & set("".join(language.quotes)) for name in names)
    return language.text is not None and grounds.kind in WORDED and bool(names) and readable


def check(text: str, grounds: Grounds, language: Language) -> CheckedText | Refused:
    """Check a text.

    Parameters
    ----------
    text : str
        As the model wrote it.
    grounds : Grounds
        Those that `is_worded`.
    language : Language

    Examples
    --------
    >>> from ranker.reasons.grounds import CitedItem
    >>> from ranker.reasons.language import english
    >>> viewed = Grounds("because", "view", CitedItem("i1", "Rain jacket"))
    >>> check('You viewed "Rain jacket", so you may like this.', viewed, english())
    CheckedText(text='You viewed “Rain jacket”, so you may like this', evidence=('i1',))
    >>> check('You bought "Rain jacket".', viewed, english())
    Refused(cause='claim', part='you bought “Rain jacket”')
    """
    line = " ".join(text.split()).rstrip(_ENDS)
    if not line:
        return Refused("empty", "")
    if len(line) > MAX_CHARACTERS:
        return Refused("long", line)
    names = _names(grounds)
    coded = _coded(line, names)
    if refused := _outside_names(coded) or _not_said(coded, grounds, language):
        return refused._replace(part=_shown(refused.part, names, language))
    ids = {each.title: each.item_id for each in reversed((*filter(None, [grounds.cited]), *grounds.alike))}
    named = [names[code] for code in coded if code in names]
    evidence = tuple(ids[name] for name in named if name in ids)
    if not evidence and grounds.search not in named:
        return Refused("no-evidence", line)
    return CheckedText(_shown(coded[:1].upper() + coded[1:], names, language), evidence)


def _names(grounds: Grounds) -> dict[str, str]:
    """The names that a text may have, each once, by the characters that stand for them."""
    titles = [each.title for each in (*filter(None, [grounds.cited]), *grounds.alike)]
    of_kind = {"titles": titles, "category": [grounds.category], "name": grounds.names, "search": [grounds.search]}
    codes: dict[str, str] = {}
    for kind, names in of_kind.items():
        for number, name in enumerate(names[:16]):
            if name:
                codes.setdefault(name, chr(_CODES[kind] + number))
    return {code: name for name, code in codes.items()}


def _coded(line: str, names: dict[str, str]) -> str:
    """The line with a character for each name, with or without quotation marks around it."""
    line = re.sub("[\ue000-\uf8ff]", "\ufffd", line)
    codes = {name: code for code, name in names.items()}
    longest_first = "|".join(map(re.escape, sorted(codes, key=len, reverse=True)))
    if not longest_first:
        return line
    pattern = (
        rf"[{QUOTES}'](?P<quoted>{longest_first})(?P<inner>[,.]?)[{QUOTES}']|(?<!\w)(?P<bare>{longest_first})(?!\w)"
    )
    return re.sub(pattern, lambda found: codes[found["quoted"] or found["bare"]] + (found["inner"] or ""), line)


def _outside_names(coded: str) -> Refused | None:
    """Refuse other names in quotation marks, and numbers."""
    if foreign := re.search(f"[{QUOTES}].*", coded):
        return Refused("name", foreign[0])
    number = next((char for char in coded if unicodedata.category(char).startswith("N")), None)
    return Refused("number", number) if number else None


def _not_said(coded: str, grounds: Grounds, language: Language) -> Refused | None:
    """Refuse what is no phrase for these grounds, and what repeats."""
    pattern = _pattern(_phrases(grounds, language), language.relation(grounds), language.and_)
    line, position, before = coded.casefold().translate(_APOSTROPHES), 0, ""
    while position < len(line):
        found = pattern.match(line, position)
        if found is None:
            return Refused("claim", line[position:])
        if found["phrase"] == before:
            return Refused("form", before)
        before, position = found["phrase"], found.end()
    named = [char for char in coded if char in _names(grounds)]
    return Refused("form", line) if len(set(named)) < len(named) else None


def _phrases(grounds: Grounds, language: Language) -> tuple[str, ...]:
    """The phrases that are true of these grounds, and the words that claim nothing."""
    text = language.text
    if text is None:
        return ()
    said = list(text.says.get(grounds.kind, ()))
    if grounds.kind == "because":
        said += [*(text.because.get(grounds.event) or text.because["view"]), *text.says.get("similar", ())]
    if grounds.category:
        said += text.says.get("category", ())
    return (*said, *text.words)


@lru_cache(256)
def _pattern(phrases: tuple[str, ...], relation: str, and_: str) -> re.Pattern[str]:
    """Matches one phrase, the longest first, and the comma and the blanks behind it."""
    kinds = {kind: re.escape(f"{{{kind}}}") for kind in (*_NAME, "relation")}
    several = rf"{_NAME['titles']}(?:(?:, ?|、|,? ?{re.escape(and_.strip().casefold())} ?){_NAME['titles']})*"
    stand_for = {**_NAME, "titles": several, "relation": re.escape(relation.casefold())}
    written = []
    for phrase in sorted(phrases, key=len, reverse=True):
        one = re.escape(phrase.casefold())
        for kind, template in kinds.items():
            one = one.replace(template, stand_for[kind])
        written.append(one)
    return re.compile(rf"(?P<phrase>{'|'.join(written)})(?:(?<![a-zß-ÿ])|(?!\w))[\s,;:，；：–—-]*")


def _shown(coded: str, names: dict[str, str], language: Language) -> str:
    """The text with the names again, in the quotation marks of the language."""
    return "".join(language.quoted(names[char]) if char in names else char for char in coded)
