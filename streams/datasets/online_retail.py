"""Read the UCI Online Retail CSV: a year of a gift shop's invoice lines, as items and purchases.

Every row is counted exactly once: under `purchases`, or under the first reason that leaves it out. The file leaves some
questions open, which are decided here:

- An **item** is a StockCode that begins with five digits ("POST", "M" and "BANK CHARGES" are no goods). Case is
  ignored, since "85123a" is "85123A" typed by hand.
- An **ordinary sale** is a line of goods that is not cancelled, with quantity and price above 0, with or without a
  customer. Only ordinary sales make the catalogue: stock corrections, which hold most written notes, have a price of 0.
- The **title** is the most frequent description among an item's ordinary sales; of several, the latest in use; of
  several still, the first in the alphabet. Written notes never count: an empty description, one without a letter, with
  a question mark or with a small first letter ("?", "damaged"). White space is collapsed, and words in capitals are set
  in title case, which is easier on readers and on models that know case.
- The **price** is the median of the item's ordinary sales, in GBP. There are no categories, brands or descriptions.
- **Times** have no zone in the file and are taken as UTC. The lines of an invoice share the minute and keep their
  order.
- An **event id** is the invoice number and the line's number in that invoice: the same at every run.

Knows nothing of Kafka.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from io import TextIOWrapper
from math import isfinite
from pathlib import Path
from statistics import median
from sys import intern

import msgspec

from encoders.event_time import milliseconds
from ranker.progress import Progress
from streams.contracts import Item, Purchase
from streams.datasets.messages import Account, InputError, ReplayMessage

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID")
CURRENCY = "GBP"
GOODS = re.compile(r"\d{5}")
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
SMALL_WORDS = frozenset(["a", "and", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"])
ACRONYMS = frozenset(["CD", "DVD", "LED", "TV", "UK", "USB", "VIP", "WC"])
PROGRESS_ROWS = 5_000


@dataclass(frozen=True)
class OnlineRetail:
    """The content of the CSV.

    Attributes
    ----------
    items : list of Item
        The catalogue, in the order of item ids.
    events : list of Purchase
        In the order of time; lines of the same minute as in the file.
    counts : dict of str to int
        The number of `rows`, and how many became `purchases` or were left out for each reason.
    """

    items: list[Item]
    events: list[Purchase]
    counts: dict[str, int]

    @property
    def topics(self) -> tuple[str, ...]:
        return "items", "purchases"

    @property
    def account(self) -> Account:
        """What became of the rows; all of them are read."""
        left_out = {reason: n for reason, n in self.counts.items() if reason not in ("rows", "purchases")}
        return Account(self.counts["rows"], Counter(left_out))

    def progress(self, taken: int) -> tuple[int, int]:
        """In messages; see `Replay`."""
        return taken, len(self.items) + len(self.events)

    def messages(self) -> Iterator[ReplayMessage]:
        """Encode the items, which have no time, then the events."""
        encode = msgspec.json.Encoder().encode
        for item in self.items:
            yield ReplayMessage("items", item.item_id.encode(), encode(item), None)
        for event in self.events:
            yield ReplayMessage("purchases", event.user_id.encode(), encode(event), milliseconds(event.timestamp))


def online_retail(path: Path, progress: Progress | None = None) -> OnlineRetail:
    """Read the CSV, plain or gzipped (`.gz`).

    Parameters
    ----------
    path : Path
        The file; its columns may be in any order.
    progress : Progress, optional
        In bytes of the file.

    Raises
    ------
    InputError
        The file is missing, is no CSV, or lacks a column.
    """
    sales_of: defaultdict[str, _Sales] = defaultdict(_Sales)
    lines: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    events: list[Purchase] = []
    for cells in _rows(path, progress):
        counts["rows"] += 1
        row = _parse(cells)
        if row is None:
            counts["unreadable"] += 1
            continue
        lines[row.invoice] += 1
        if row.is_goods and not row.is_cancelled and row.quantity > 0 and row.price > 0:
            sales_of[row.code].add(row)
        reason = _left_out(row)
        if reason:
            counts[reason] += 1
        else:
            events.append(_purchase(row, lines[row.invoice]))
    items = [_item(code, sales) for code, sales in sorted(sales_of.items()) if sales.titles]
    item_ids = {item.item_id for item in items}
    titled = [event for event in events if event.item_id in item_ids]
    if len(titled) < len(events):
        counts["without_title"] = len(events) - len(titled)
    counts["purchases"] = len(titled)
    titled.sort(key=lambda event: milliseconds(event.timestamp))
    return OnlineRetail(items, titled, dict(counts))


class _Row(msgspec.Struct, gc=False):
    invoice: str
    code: str
    description: str
    quantity: float
    time_ms: int
    price: float
    customer: str

    @property
    def is_goods(self) -> bool:
        return GOODS.match(self.code) is not None

    @property
    def is_cancelled(self) -> bool:
        return self.invoice[:1] in ("C", "c")


@dataclass
class _Sales:
    """An item's ordinary sales: how often and when last each title was used, and the prices."""

    titles: Counter[str] = field(default_factory=Counter)
    last_ms: dict[str, int] = field(default_factory=dict)
    prices: list[float] = field(default_factory=list)

    def add(self, row: _Row) -> None:
        self.prices.append(row.price)
        text = " ".join(row.description.split())
        if not _is_note(text):
            self.titles[text] += 1
            self.last_ms[text] = max(row.time_ms, self.last_ms.get(text, row.time_ms))

    @property
    def title(self) -> str:
        return min(self.titles, key=lambda text: (-self.titles[text], -self.last_ms[text], text))


def _rows(path: Path, progress: Progress | None) -> Iterator[list[str]]:
    """The rows' cells in the order of COLUMNS; an empty list for a row with too few or too many."""
    try:
        size = path.stat().st_size
        with path.open("rb") as raw:
            binary = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            # other editions of this file have pound signs that are not UTF-8; no item that we keep has one
            reader = csv.reader(TextIOWrapper(binary, "utf-8-sig", errors="replace", newline=""))
            header = next(reader, [])
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                got = ", ".join(header)[:200] or "an empty file"
                raise InputError(
                    f"{path}: got the columns {got}; {', '.join(missing)} missing; expected UCI Online Retail as CSV"
                )
            columns = [header.index(name) for name in COLUMNS]
            for number, cells in enumerate(reader, 1):
                yield [cells[column] for column in columns] if len(cells) == len(header) else []
                if progress and number % PROGRESS_ROWS == 0:
                    progress(raw.tell(), size)
            if progress:
                progress(size, size)
    except (OSError, EOFError, csv.Error, zlib.error) as error:
        raise InputError(f"{path}: {error}; expected UCI Online Retail as CSV, plain or gzipped") from error


def _parse(cells: list[str]) -> _Row | None:
    try:
        invoice, code, description, quantity, date, price, customer = cells
        row = _Row(
            invoice.strip(),
            intern(code.strip().upper()),
            description,
            float(quantity),
            _milliseconds(date),
            float(price),
            intern(customer.strip().removesuffix(".0")),
        )
    except ValueError:
        return None
    return row if row.invoice and row.code and isfinite(row.quantity) and isfinite(row.price) else None


@lru_cache(maxsize=4)
def _milliseconds(date: str) -> int:
    """`2010-12-01 08:26:00`, or `12/1/2010 8:26` as other editions of the file write it."""
    try:
        moment = datetime.fromisoformat(date)
    except ValueError:
        moment = datetime.strptime(date, "%m/%d/%Y %H:%M")
    return round(moment.replace(tzinfo=timezone.utc).timestamp() * 1000)


def _left_out(row: _Row) -> str | None:
    if row.is_cancelled:
        return "cancellations"
    if not row.customer:
        return "without_customer"
    if not row.is_goods:
        return "not_goods"
    if row.quantity <= 0:
        return "quantity_not_positive"
    return "price_negative" if row.price < 0 else None


def _purchase(row: _Row, line: int) -> Purchase:
    return Purchase(
        event_id=f"{row.invoice}-{line}",
        user_id=row.customer,
        item_id=row.code,
        timestamp=row.time_ms,
        session_id=row.invoice,
        quantity=row.quantity,
        price=row.price,
        currency=CURRENCY,
    )


def _item(code: str, sales: _Sales) -> Item:
    return Item(item_id=code, title=_readable(sales.title), price=round(median(sales.prices), 2), currency=CURRENCY)


def _is_note(text: str) -> bool:
    return "?" in text or text[:1].islower() or not any(letter.isalpha() for letter in text)


def _readable(text: str) -> str:
    """Set words that are all capitals in title case; leave the others as they were typed.

    >>> _readable("SET OF 3 CAKE TINS WITH UK FLAG 30CM")
    'Set of 3 Cake Tins with UK Flag 30cm'
    >>> _readable("BAG 125g SWIRLY MARBLES")
    'Bag 125g Swirly Marbles'
    """

    def cased(match: re.Match[str]) -> str:
        letters, start = match[0], match.start()
        if len(letters) == 1 and start and letters != "A":
            return letters
        if not letters.isupper() or letters in ACRONYMS:
            return letters
        if start and (letters.lower() in SMALL_WORDS or text[start - 1].isdigit()):
            return letters.lower()
        return letters.capitalize()

    return WORD.sub(cased, text)
