"""`afterclick demo --web` as a person runs it: it names its page, opens it on a desktop, and ends with Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.client import until

BROWSER = """#!/bin/sh
echo "$1" > {opened}.part && mv {opened}.part {opened}
"""


def test_the_demo_opens_its_page_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(BROWSER.format(opened=opened))
    browser.chmod(0o755)
    desktop = {**os.environ, "DISPLAY": ":99", "BROWSER": str(browser)}
    command = [sys.executable, "-u", "-m", "streams.cli", "demo", "--web", "--events", "50"]
    with subprocess.Popen(
        command, env=desktop, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        try:
            assert demo.stdout is not None
            found = next(filter(None, (re.search(r"http://\S+/page/", line) for line in demo.stdout)), None)
            assert found is not None, demo.communicate()[1]
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(found[0], timeout=10) as response:
                assert "Afterclick" in response.read().decode()
            assert "Ctrl-C" in next(demo.stdout)
            until(opened.exists)
            demo.send_signal(signal.SIGINT)
            _, errors = demo.communicate(timeout=60)
            assert (demo.returncode, errors) == (0, "")
        finally:
            demo.terminate()  # it ends what it started
            with suppress(subprocess.TimeoutExpired):
                demo.wait(60)
            demo.kill()
    assert opened.read_text().strip() == found[0]
