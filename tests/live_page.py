"""A browser over the live page, and the picture of the page for the README.

`python -m tests.live_page` (`make picture`) runs `afterclick demo --web`, shops a little, and writes the picture anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "deploy/live-page.png"
NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1360, 900
CLICKS = ("rain jacket", "hiking boots", "running shoes", "tent", "rain jacket")
COLOURS = 128
"""Of the picture: it is of few colours, and a third as large with a palette."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a headless browser. Skips the test, and says what is missing, where there is none."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("no browser: needs playwright (pip install '.[dev]')")
    if executable is None:
        pytest.skip(f"no browser: needs one of {', '.join(NAMES)} on PATH")
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


def wait_for_list(page: Page) -> int:
    """Wait until the list after the last click is on the screen; return the milliseconds that the page shows."""
    page.wait_for_selector("#took:is([data-state=fast], [data-state=slow])")
    return int(page.inner_text("#took-ms").replace(",", ""))


def click(page: Page, selector: str) -> int:
    """Click what sends an event; return the milliseconds until the new list was on the screen."""
    page.locator(selector).first.click()
    return wait_for_list(page)


def search(page: Page, words: str) -> None:
    """Search the shop, and wait for the result."""
    with page.expect_response(lambda response: "/page/items" in response.url):
        page.fill("#query", words)
    page.wait_for_timeout(50)


def take_picture(address: str, path: Path) -> None:
    """Shop a little as a new shopper, and take the picture."""
    from PIL import Image

    with browser() as running, tempfile.TemporaryDirectory() as folder:
        page = running.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(address)
        page.wait_for_selector("#items .card")
        for words in CLICKS:
            search(page, words)
            page.wait_for_timeout(1_000)
            click(page, "#items .card:nth-child(2) .look")
        click(page, "#recommendations .row:nth-child(3) .look")
        search(page, "")
        page.wait_for_timeout(3_000)  # the pipeline's means are of the latest lists
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur()")
        taken = Path(folder) / "page.png"
        page.screenshot(path=taken, full_page=True)
        with Image.open(taken) as image:
            image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Run the demo, and write the picture."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-u", "-m", "streams.cli", "demo", "--web"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            found = next(filter(None, (re.search(r"http://\S+/page/", line) for line in demo.stdout)), None)
            if found is None:
                sys.exit("afterclick demo --web: got no address of the page, expected one")
            time.sleep(10)  # other shoppers shop meanwhile
            take_picture(found[0], PICTURE)
        finally:
            demo.terminate()
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
