"""Tables for a terminal, a pipe or a file, in which no figure, name or id is ever cut or broken.

A table that does not fit the width is printed as several tables, or as one block a row where it has sentences. Colours
are for a terminal alone, and for none where `NO_COLOR` is set. Knows no command.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

SENTENCE = 24
"""A width for `Field.wrap`, in characters; chosen by us: three or four words a line."""
BETWEEN, INDENT = 2, 4


@dataclass(frozen=True)
class Field:
    """A column of a report.

    Attributes
    ----------
    heading : str
    number : bool
        Its cells are figures: aligned at the right.
    wrap : int
        Its cells may be wrapped between words, to this width at the least. 0: its cells stay as they are.
    """

    heading: str
    number: bool = False
    wrap: int = 0


@dataclass
class Report:
    """A table with a title above and a caption below.

    Attributes
    ----------
    fields : sequence of Field
    title, caption : str
    keys : int
        How many fields at the left name a row.
    rows : list of (sequence of str, str)
        The cells of each row, and its style. A cell may have several lines.
    """

    fields: Sequence[Field]
    title: str = ""
    caption: str = ""
    keys: int = 1
    rows: list[tuple[Sequence[str], str]] = field(default_factory=list)

    def add(self, *cells: str, style: str = "") -> None:
        """Add a row: a cell for each field."""
        self.rows.append((cells, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        yield from _lines(self.title, width, style="bold")
        yield from self._body(width)
        yield from [Text("")] * bool(self.caption)
        yield from _lines(self.caption, width)

    def _body(self, width: int) -> RenderResult:
        """One table, or several tables of figures, or a block for each row."""
        everything = [list(range(len(self.fields)))]
        tables = everything if self._widths(everything[0], width) else list(self._parts(width))
        if tables != everything and any(one.wrap for one in self.fields):
            tables = []
        widths = [self._widths(indices, width) for indices in tables]
        if not all(widths) or not widths:
            yield from self._blocks(width)
            return
        for number, indices in enumerate(tables):
            yield from [Text("")] * bool(number)
            yield self._table(indices, widths[number])

    def _cells(self, index: int) -> Iterator[str]:
        return (line for cells, _ in self.rows for line in cells[index].split("\n"))

    def _least(self, indices: Iterable[int]) -> list[int]:
        """The least width of each column that breaks nothing."""
        return [self._least_of(index) for index in indices]

    def _least_of(self, index: int) -> int:
        heading = max(map(cell_len, self.fields[index].heading.split()), default=0)
        cells = list(self._cells(index))
        if not (wrap := self.fields[index].wrap):
            return max([heading, *map(cell_len, cells)])
        words = max((cell_len(word) for cell in cells for word in cell.split()), default=0)
        return max(heading, words, min(wrap, max(map(cell_len, cells), default=0)))

    def _widths(self, indices: Sequence[int], width: int) -> list[int]:
        """The width of each column, or nothing if the table does not fit."""
        least = self._least(indices)
        left = width - sum(least) - BETWEEN * len(least)
        if left < 0:
            return []
        wanted = [
            max([few, cell_len(self.fields[index].heading), *map(cell_len, self._cells(index))])
            for index, few in zip(indices, least, strict=True)
        ]
        missing = [most - few for most, few in zip(wanted, least, strict=True)]
        share = min(1.0, left / sum(missing)) if any(missing) else 0.0
        return [few + int(more * share) for few, more in zip(least, missing, strict=True)]

    def _parts(self, width: int) -> Iterator[list[int]]:
        """The columns of each of several tables; the keys are in all of them."""
        keys = list(range(self.keys))
        part: list[int] = []
        for index in range(self.keys, len(self.fields)):
            if part and sum(self._least([*keys, *part, index])) + BETWEEN * (len(keys) + len(part) + 1) > width:
                yield [*keys, *part]
                part = []
            part.append(index)
        yield [*keys, *part]

    def _table(self, indices: Sequence[int], widths: Sequence[int]) -> Table:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for index, width in zip(indices, widths, strict=True):
            one = self.fields[index]
            heading = Text("\n".join(_wrapped(one.heading, width)))
            table.add_column(heading, width=width, justify="right" if one.number else "left", no_wrap=not one.wrap)
        for cells, style in self.rows:
            table.add_row(*(Text("\n".join(_wrapped(cells[n], widths[i]))) for i, n in enumerate(indices)), style=style)
        return table

    def _blocks(self, width: int) -> Iterator[Text]:
        headings = [one.heading for one in self.fields[self.keys :]]
        hanging = INDENT + max(map(len, headings), default=0) + BETWEEN
        was_block = False
        for number, (cells, style) in enumerate(self.rows):
            name = "  ".join(filter(None, cells[: self.keys]))
            line = "  ".join([name, *filter(None, cells[self.keys :])])
            is_block = sum(map(bool, cells[self.keys :])) > 1 or cell_len(line) > width
            yield from [Text("")] * bool(number and (is_block or was_block))
            was_block = is_block
            if not is_block:
                yield from _lines(line, width, style=style)
                continue
            yield from _lines(name, width, style=style or "bold")
            for heading, cell in zip(headings, cells[self.keys :], strict=True):
                first = f"{'':{INDENT}}{heading}"
                if hanging + max(map(cell_len, cell.split()), default=0) <= width:
                    yield from _lines(cell, width, first.ljust(hanging), " " * hanging, style)
                else:  # a word that is longer than what the heading leaves of a line
                    yield from (*_lines(first, width, style=style), *_lines(cell, width, style=style))


def _wrapped(text: str, width: int, first: str = "", hanging: str = "") -> Iterator[str]:
    """Wrap each line between words; a word that is longer than the line stays whole."""
    for number, line in enumerate(text.split("\n")):
        start = hanging if number else first
        broken = textwrap.wrap(
            line,
            width,
            initial_indent=start,
            subsequent_indent=hanging,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        )
        yield from broken or [start]


def _lines(text: str, width: int, first: str = "", hanging: str = "", style: str = "") -> Iterator[Text]:
    if text:
        yield from (
            Text(line, style, no_wrap=True, overflow="ignore") for line in _wrapped(text, width, first, hanging)
        )


def show(*reports: RenderableType, console: Console | None = None) -> None:
    """Print reports with an empty line between two, to stdout or to a console of your own."""
    parts = [part for report in reports for part in (Text(""), report)]
    (console or Console(highlight=False)).print(Group(*parts[1:]), crop=False)
