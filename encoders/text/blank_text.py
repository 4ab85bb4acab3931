"""Texts that show nothing to a reader: blanks, controls, and letters of no width."""

from __future__ import annotations

import unicodedata

_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and a symbol that show nothing."""


def is_blank(text: str) -> bool:
    r"""Whether nothing of a text shows.

    >>> is_blank(" \u200b\x00"), is_blank("\u200bx"), is_blank("\u5e3d"), is_blank("")
    (True, False, False, True)
    """
    return not any(unicodedata.category(letter)[0] in "LNPS" and letter not in _BLANK_LETTERS for letter in text)
