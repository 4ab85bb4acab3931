"""What the demo shows: progress bars while it starts, a live screen, and a summary.

`View` holds the counts and one shopper's list. The threads of the demo change it. `Screen` draws it on a terminal, as
lines of a log, or as one JSON object. Knows no Kafka and no worker.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from encoders.describe import describe_history
from encoders.event_time import milliseconds
from ranker.evaluation.measures import K, Prequential
from streams.contracts import COLD_START_USER, Click, HistoryEvent, Item, Purchase, Recommendations
from streams.terminal.progress_bar import progress_bar
from streams.terminal.report import Field, Report, show

HISTORY_LINES = 4
RATE_OVER_S = 3.0
REPORT_EVERY_S = 5.0  # without a terminal
WHY_PREFIX = "Because you "
NEXT = """The same on a live page, where you click yourself: `afterclick demo --web`.
Next, with your own Kafka and Redis: `afterclick doctor`, then `afterclick worker`.
README.md says how to produce clicks, consume lists and monitor the workers."""


@dataclass(frozen=True)
class Shown:
    """One shopper's list, with the events that it knows and the list before it.

    Attributes
    ----------
    now : Recommendations
        The list.
    before : Recommendations or None
        The list before it; None for the first.
    history : list of HistoryEvent
        The shopper's events until the list, newest first.
    after_ms : float or None
        The time from the event to the list; None for a list without an event of its own.
    """

    now: Recommendations
    before: Recommendations | None
    history: list[HistoryEvent]
    after_ms: float | None


class View:
    """Counts of all events and lists, and the list of one shopper: the one with the most events.

    Parameters
    ----------
    items : sequence of Item
        The items of the shop.
    events : sequence of Click
        The events that will be sent.
    seed : int
        The seed of the random lists that ours are compared with.
    """

    def __init__(self, items: Sequence[Item], events: Sequence[Click], seed: int) -> None:
        self.items = {item.item_id: item for item in items}
        self.total = len(events)
        self.shopper = Counter(event.user_id for event in events).most_common(1)[0][0]
        self.judge = Prequential([item.item_id for item in items if item.available], seed)
        self.sent = self.accepted = self.dead_letters = self.lists = self.degraded = 0
        self.scorer: str | None = None
        self.latencies_ms: list[float] = []
        self.shown: Shown | None = None
        self._history: dict[str, HistoryEvent] = {}

    def saw(self, event: Click) -> None:
        """Note an event that is about to be sent."""
        self.sent += 1
        if event.user_id == self.shopper:
            item = self.items[event.item_id]
            self._history[event.event_id] = HistoryEvent(
                item_id=item.item_id,
                type="purchase" if isinstance(event, Purchase) else "click",
                timestamp=event.timestamp,
                title=item.title,
                categories=item.categories,
                price=item.price,
                currency=item.currency,
            )

    def got(self, received: Recommendations, after_ms: float | None) -> None:
        """Note a list that came `after_ms` after its event (None: it has no event of its own)."""
        self.lists += 1
        if received.user_id != COLD_START_USER:  # the cold-start list is always degraded
            self.degraded += received.degraded is not None
        self.scorer = received.model
        if after_ms is not None:
            self.latencies_ms.append(after_ms)
        if received.user_id == self.shopper:
            ids = list(self._history)
            trigger = received.trigger.event_id if received.trigger else None
            until = ids.index(trigger) + 1 if trigger in self._history else len(ids)
            history = [self._history[event_id] for event_id in ids[max(0, until - HISTORY_LINES) : until]]
            self.shown = Shown(received, self.shown.now if self.shown else None, history[::-1], after_ms)

    def percentile_ms(self, percent: int) -> float | None:
        """A percentile of the event-to-list times; None before the first list."""
        return round(float(np.percentile(self.latencies_ms, percent)), 1) if self.latencies_ms else None

    def report(self, seconds: float) -> dict[str, Any]:
        """The summary as `--json` prints it."""
        judge = self.judge
        tallies = {"afterclick": judge.afterclick, "popularity": judge.popularity, "random": judge.random}
        return {
            "events_sent": self.sent,
            "events_accepted": self.accepted,
            "dead_letters": self.dead_letters,
            "lists": self.lists,
            "degraded": self.degraded,
            "event_to_list_ms": {"p50": self.percentile_ms(50), "p99": self.percentile_ms(99)},
            "ndcg_at_10": {name: tally.ndcg and round(tally.ndcg, 4) for name, tally in tallies.items()},
            "scorer": self.scorer,
            "seconds": round(seconds, 1),
        }


class Screen:
    """Draws the demo on stdout. With `as_json` stdout gets one object, and stderr gets bars if it is a terminal."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(stderr=as_json, quiet=as_json and not sys.stderr.isatty(), highlight=False)

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[[float], None]]:
        """Show progress. The caller reports how much of `total` is done."""
        started = time.monotonic()
        with progress_bar(console=self._console) as stage:
            progress = stage(label)
            yield lambda done: progress(int(done), total)
        self._console.print(f"{label}: {time.monotonic() - started:.1f} s")

    def say(self, text: str) -> None:
        """Print text that may be longer than a line."""
        self._console.print(text, soft_wrap=True)

    @contextmanager
    def live(self, view: View) -> Iterator[Callable[[], None]]:
        """Draw the view each time that the caller calls the result."""
        if self._as_json:
            with self.bar(f"Sending {view.total:,} events", view.total) as advance:
                yield lambda: advance(view.sent)
        elif self._console.is_terminal:
            pace = Pace(view)
            with Live(console=self._console, auto_refresh=False, vertical_overflow="crop") as live:
                yield lambda: live.update(render(view, pace.per_s()), refresh=True)
        else:
            yield self._lines(view)

    def finish(self, view: View, seconds: float) -> None:
        """Print the summary."""
        if self._as_json:
            sys.stdout.write(json.dumps(view.report(seconds)) + "\n")
            return
        self._console.print()
        show(verdict(view), console=self._console)
        for line in (
            f"{view.sent:,} events sent, {view.accepted:,} accepted, {view.dead_letters:,} dead letters",
            f"{view.lists:,} lists by {view.scorer}, {view.degraded:,} degraded",
            f"{_times(view)}; {seconds:.0f} s in all",
            f"\n{NEXT}",
        ):
            self._console.print(line, soft_wrap=True)

    def _lines(self, view: View) -> Callable[[], None]:
        last = time.monotonic()

        def show() -> None:
            nonlocal last
            if time.monotonic() - last >= REPORT_EVERY_S:
                last = time.monotonic()
                self._console.print(f"{view.sent:,} of {view.total:,} events, {view.lists:,} lists, {_times(view)}")

        return show


class Pace:
    """Events and lists per second over the last `RATE_OVER_S` seconds."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._seen: deque[tuple[float, int, int]] = deque()

    def per_s(self) -> tuple[float, float]:
        """Measure both rates now."""
        now = time.monotonic()
        self._seen.append((now, self._view.sent, self._view.lists))
        while now - self._seen[0][0] > RATE_OVER_S:
            self._seen.popleft()
        then, sent, lists = self._seen[0]
        over_s = max(now - then, 0.1)
        return (self._view.sent - sent) / over_s, (self._view.lists - lists) / over_s


def changes(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Describe for each item of a list how it moved since the list before: new, up, down, or unchanged.

    >>> changes(["mug", "rug", "lamp"], ["lamp", "vase", "mug"])
    ['▲2', 'new', '▼2']
    """
    rank_before = {item: rank for rank, item in enumerate(before)}
    moved = [rank_before[item] - rank if item in rank_before else None for rank, item in enumerate(now)]
    return ["new" if up is None else f"▲{up}" if up > 0 else f"▼{-up}" if up < 0 else "" for up in moved]


def render(view: View, per_s: tuple[float, float]) -> RenderableType:
    """Draw the live screen: 21 lines of 80 columns or more."""
    progress = Table.grid(padding=(0, 2), expand=True)
    progress.add_column(ratio=1)
    pace = f"{per_s[0]:.0f} events/s" if view.sent < view.total else "all sent"
    progress.add_row(ProgressBar(view.total, view.sent), f"{view.sent:,} of {view.total:,} events  {pace}")
    counts = f"{view.lists:,} lists  {per_s[1]:.0f} lists/s   {_times(view)}"
    state = f"{view.accepted:,} accepted   {view.dead_letters:,} dead letters   {view.degraded:,} degraded"
    head = (Rule("[bold]Afterclick: every click re-ranks the list"), progress, counts, state)
    if view.shown is None:
        return Group(*head, Rule(f"waiting for the first list of {view.shopper}", align="left"))
    return Group(*head, *_shopper(view, view.shown))


def _shopper(view: View, shown: Shown) -> Iterator[RenderableType]:
    yield Rule(f"what [bold]{view.shopper}[/] did, newest first", align="left")
    newest_ms = milliseconds(shown.history[0].timestamp) if shown.history else 0
    for number, event in enumerate(shown.history):
        sentence = describe_history([event], newest_ms)
        yield Text(sentence, "bold" if number == 0 else "dim", no_wrap=True, overflow="ellipsis")
    took = "" if shown.after_ms is None else f", {shown.after_ms:,.0f} ms later"
    yield Rule(f"their list{took}", align="left")
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True, header_style="dim")
    for heading in ("", "#", "title", "category", "price", "why"):
        table.add_column(
            heading,
            no_wrap=True,
            overflow="ellipsis",
            width={"": 3, "category": 14}.get(heading),
            ratio=1 if heading in ("title", "why") else None,
            justify="right" if heading in ("#", "price") else "left",
        )
    before = [item.item_id for item in shown.before.items] if shown.before else []
    now = [item.item_id for item in shown.now.items]
    for recommended, change in list(zip(shown.now.items, changes(before, now), strict=True))[:K]:
        item = view.items[recommended.item_id]
        colour = "green" if change == "new" or change.startswith("▲") else "red"
        price = "" if item.price is None else f"{item.price:,.2f}"
        why = recommended.reason.text.removeprefix(WHY_PREFIX)
        table.add_row(Text(change, colour), str(recommended.rank), item.title, item.categories[-1], price, why)
    yield table


def _times(view: View) -> str:
    p50, p99 = view.percentile_ms(50), view.percentile_ms(99)
    return "no list yet" if p50 is None else f"event to list: p50 {p50:,.0f} ms, p99 {p99:,.0f} ms"


def verdict(view: View) -> Report:
    """Draw the quality of the lists beside popular and random lists."""
    judge = view.judge
    headings = ("", f"NDCG@{K}", f"hit rate@{K}", "different items")
    title = f"Was the next item in the top {K}? ({judge.afterclick.judged:,} events)"
    report = Report([Field(heading, number=bool(heading)) for heading in headings], title)
    tallies = {"afterclick": judge.afterclick, "popularity": judge.popularity, "random": judge.random}
    for name, tally in tallies.items():
        cells = (_or_dash(tally.ndcg, ".3f"), _or_dash(tally.hit_rate, ".1%"), f"{tally.distinct:,}")
        report.add(name, *cells, style="bold" if tally is judge.afterclick else "")
    return report


def _or_dash(number: float | None, form: str) -> str:
    return "-" if number is None else format(number, form)
