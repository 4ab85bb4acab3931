"""Texts without a visible character: white space, controls, and letters of no width."""

from __future__ import annotations

import unicodedata

_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and a symbol that are invisible."""


def is_blank(text: str) -> bool:
    r"""Return whether a text has no visible character.

    >>> is_blank(" \u200b\x00"), is_blank("\u200bx"), is_blank("\u5e3d"), is_blank("")
    (True, False, False, True)
    """
    return not any(unicodedata.category(letter)[0] in "LNPS" and letter not in _BLANK_LETTERS for letter in text)
