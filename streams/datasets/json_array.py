"""Split a JSON array into the texts of its elements while it is read, so that memory holds a piece of it alone.

The standard decoder finds where each element ends, so the split is right by construction, and each element keeps its
bytes. (`ijson` yields decoded values: numbers would change, and what the decoder of messages says about a text would be
lost.) Knows no file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

CHUNK = 1 << 16
LARGEST_ELEMENT = 16 << 20
"""In characters; chosen by us: a message has at most 1 MiB, and a record of another system may hold several."""
_SPACE = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


class Readable(Protocol):
    """A stream of text."""

    def read(self, size: int, /) -> str:
        """Read at most so many characters; an empty text at the end."""
        ...


class Element(NamedTuple):
    """An element of the array.

    Attributes
    ----------
    line : int
        The line on which it begins, from 1.
    text : str
        As it is in the array.
    """

    line: int
    text: str


class BrokenArray(Exception):
    """From here on the text is no JSON array. The message says what is wrong and on which line."""


def elements(stream: Readable, chunk: int = CHUNK) -> Iterator[Element]:
    """Yield the elements of a JSON array.

    Parameters
    ----------
    stream : Readable
        The text, which begins with the array.
    chunk : int
        The number of characters that are read at once.

    Raises
    ------
    BrokenArray
        The text is no JSON array, ends within it, or has something behind it.

    >>> from io import StringIO
    >>> [element.text for element in elements(StringIO('[{"a": 1}, [2.50]]'))]
    ['{"a": 1}', '[2.50]']
    """
    window = _Window(stream, chunk)
    window.take("[")
    if window.next_character() == "]":
        window.take("]")
    else:
        yield window.element()
        while window.next_character() == ",":
            window.take(",")
            yield window.element()
        window.take("]")
    if window.next_character():
        raise window.broken("text behind the array", "its end")


class _Window:
    """The part of the text that is in memory, and the position in it."""

    def __init__(self, stream: Readable, chunk: int) -> None:
        self._stream, self._chunk = stream, chunk
        self._text, self._position, self._line = "", 0, 1
        self._ended = False

    def next_character(self) -> str:
        """Return the next character that is no white space; "" at the end."""
        while True:
            space = _SPACE.match(self._text, self._position)
            self._advance(space.end() if space else self._position)
            if self._position < len(self._text) or not self._more(self._chunk):
                return self._text[self._position : self._position + 1]

    def take(self, character: str) -> None:
        if (got := self.next_character()) != character:
            raise self.broken(repr(got) if got else "the end of the file", repr(character))
        self._advance(self._position + 1)

    def element(self) -> Element:
        self.next_character()
        wanted = self._chunk
        while (end := self._end_of_element()) is None:
            if len(self._text) - self._position > LARGEST_ELEMENT:
                raise self._broken_element()
            if not self._more(wanted):
                raise self._broken_element()
            wanted *= 2  # so that a long element is not decoded again for each chunk of it
        found = Element(self._line, self._text[self._position : end])
        self._advance(end)
        return found

    def _end_of_element(self) -> int | None:
        """Return where the element ends; None if more text may be needed. What follows a number may belong to it."""
        try:
            _, end = _decode(self._text, self._position)
        except ValueError:
            return None
        except RecursionError:
            raise self.broken("values that are nested too deep", "a flat object") from None
        space = _SPACE.match(self._text, end)
        begin = space.end() if space else end
        return end if self._text[begin : begin + 1] in (",", "]") else None

    def _broken_element(self) -> BrokenArray:
        size = len(self._text) - self._position
        try:
            _, end = _decode(self._text, self._position)
        except json.JSONDecodeError as error:
            self._advance(min(error.pos, len(self._text)))
            if size > LARGEST_ELEMENT:
                return self.broken(f"{error.msg}, or a value over {LARGEST_ELEMENT >> 20} MiB", "a smaller one")
            return self.broken(error.msg if self.next_character() else "the end of the file", "a JSON value")
        self._advance(end)
        return self.broken(
            repr(self.next_character()) if self.next_character() else "the end of the file", "',' or ']'"
        )

    def _more(self, size: int) -> bool:
        """Read on; tell whether there was anything."""
        if not self._ended:
            read = self._stream.read(size)
            self._ended = not read
            self._text = self._text[self._position :] + read
            self._position = 0
        return not self._ended

    def _advance(self, position: int) -> None:
        self._line += self._text.count("\n", self._position, position)
        self._position = position

    def broken(self, got: str, expected: str) -> BrokenArray:
        return BrokenArray(f"the JSON array is broken on line {self._line}: got {got}, expected {expected}")
