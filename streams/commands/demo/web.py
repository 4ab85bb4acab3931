"""`afterclick demo --web`: the whole product on a generated shop, shown on the live page until Ctrl-C.

A part of the shop's events is sent at once, so that there is something to recommend by. The rest follows slowly: a few
shoppers shop while a person looks. Knows the worker by its environment, its topics and its metrics.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import msgspec

from encoders.event_time import milliseconds
from streams.commands.demo.open_shop import (
    READY_TIMEOUT_S,
    SETTLE_TIMEOUT_S,
    DemoFailed,
    ended_by_signals,
    interleaved,
    open_shop,
)
from streams.commands.demo.screen import Screen
from streams.contracts import Click, Purchase
from streams.datasets.shop import SyntheticShop
from streams.settings import HttpSettings, Settings
from streams.testing.embedded import free_port
from streams.testing.worker_process import WorkerFailed, WorkerProcess

if TYPE_CHECKING:
    from confluent_kafka import Producer

ITEMS = 700
SHOPPERS = 40
AT_ONCE = 400
"""Events that are sent before the page is shown; chosen by us: enough for the first co-visits, in a few seconds."""
EVERY_S = 1.0
"""Between two events of the generated shoppers; chosen by us: one sees them shop, and the machine stays idle."""
USUAL_PORT = 8080
PAGE_TIMEOUT_S = 60.0


def run(events: int, seed: int, show: Callable[[str], bool] = webbrowser.open) -> None:
    """Run the demo until Ctrl-C.

    Parameters
    ----------
    events : int
        The number of events of the generated shoppers. After the last one only the page sends events.
    seed : int
        The seed of the generated shop.
    show : callable
        Opens an address on the desktop.

    Raises
    ------
    SystemExit
        With status 1: the worker failed.
    streams.testing.embedded.EmbeddedUnavailable
        A package for the embedded servers is missing.
    """
    screen = Screen(as_json=False)
    try:
        with ended_by_signals(), ExitStack() as running:
            _play(running, screen, events, seed, show)
    except (DemoFailed, WorkerFailed) as error:
        sys.stderr.write(f"afterclick demo: {error}\n")
        raise SystemExit(1) from error


def _play(running: ExitStack, screen: Screen, events: int, seed: int, show: Callable[[str], bool]) -> None:
    shop = SyntheticShop(seed, ITEMS, SHOPPERS)
    settings, worker, producer = open_shop(
        running,
        screen,
        shop,
        ["--web"],
        _with_page,
        2 * READY_TIMEOUT_S,  # the page's process starts at the same time
    )
    to_send = interleaved(list(shop.events(events)))
    earlier, later = to_send[:AT_ONCE], to_send[AT_ONCE:]
    _send(producer, earlier)
    clicks = sum(not isinstance(event, Purchase) for event in earlier)
    with screen.bar(f"Sending {len(earlier):,} events", clicks) as advance:
        worker.wait("afterclick_events_total", clicks, SETTLE_TIMEOUT_S, advance, topic="clicks", outcome="accepted")
    address = page_address(settings)
    _wait_for_page(address, worker)
    with suppress(KeyboardInterrupt):
        screen.say(f"\nThe live page: {address}\nCtrl-C ends the demo.")
        if has_desktop():
            threading.Thread(target=show, args=(address,), daemon=True).start()  # some browsers do not return
        for event in later:
            _send(producer, [event])
            _rest(worker)
        while True:
            _rest(worker)


def _with_page(settings: Settings) -> Settings:
    return settings.model_copy(update={"http": HttpSettings(port=_port(), rerank=False)})


def page_address(settings: Settings) -> str:
    """Return the address of the page."""
    return f"http://{settings.http.host}:{settings.http.port}/page/"


def has_desktop() -> bool:
    """Whether a browser can show a window."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _send(producer: Producer, events: Sequence[Click]) -> None:
    """Send events. Their times are moved so that the last one happens now."""
    moved_ms = round(time.time() * 1000) - max(milliseconds(event.timestamp) for event in events)
    for event in events:
        moved = msgspec.structs.replace(event, timestamp=milliseconds(event.timestamp) + moved_ms)
        topic = "purchases" if isinstance(event, Purchase) else "clicks"
        producer.produce(topic, key=event.user_id, value=msgspec.json.encode(moved))
    producer.flush(SETTLE_TIMEOUT_S)


def _rest(worker: WorkerProcess) -> None:
    time.sleep(EVERY_S)
    if (code := worker.process.poll()) is not None:
        raise DemoFailed(f"the worker: got exit code {code}, expected it to run; {worker.log_end()}")


def _wait_for_page(address: str, worker: WorkerProcess) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: no proxy
    deadline = time.monotonic() + PAGE_TIMEOUT_S
    while True:
        try:
            with opener.open(address, timeout=5):
                return
        except (OSError, urllib.error.URLError) as error:
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"{address}: got {error}, expected the page within {PAGE_TIMEOUT_S:g} s; {worker.log_end()}"
                ) from error
        time.sleep(0.1)


def _port() -> int:
    """The usual port, or another one if a program listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", USUAL_PORT))
        except OSError:
            return free_port()
    return USUAL_PORT
