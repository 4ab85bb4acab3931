"""How a process logs: one line a record on stderr, as text or as JSON, with a limit on repeated lines.

At level debug every line is logged. At the other levels the internals of libraries are left out. Knows no setting and
no Kafka. Imports nothing large, because the process that holds the models sets up its log before all else.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from datetime import datetime, timezone
from types import TracebackType
from typing import Literal, NamedTuple

OURS = ("streams", "ranker", "encoders")
"""The packages whose lines at level info are logged."""
STREAM_PROCESSOR = ("faust", "mode", "streams.faust_compat")
"""Loggers of Faust. Its services log under the name of our module if the class is ours; such a line has `[^`."""
AFTER_A_CRASH = ("Error while stopping child", "Reraising original exception")
"""Lines of Faust that follow a crash and say nothing about it."""
BURST = 10
"""Lines of one kind that are logged in a row; chosen by us: enough to see a pattern."""
EVERY_S = 60.0
"""After this time, in seconds, `BURST` lines of a kind are logged again. The first says how many were left out."""
MAX_KINDS = 1_000

logger = logging.getLogger(__name__)


class LogChoice(NamedTuple):
    """What a process was told about its log, so that its child processes log alike."""

    level: str
    form: Literal["text", "json"]


class _Format(logging.Formatter):
    """Times are RFC 3339 in UTC, with milliseconds."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """See `logging.Formatter`."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormat(_Format):
    """Time, level, logger and message; the traceback of an exception follows in lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")


class JsonFormat(_Format):
    """One JSON object a line: `time`, `level`, `logger`, `process`, `message`, and `exception` with the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        fields = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class Internals(logging.Filter):
    """Leave out what nobody can act on: libraries below warning, and Faust's own lines unless it crashes."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is logged."""
        if record.name.partition(".")[0] not in OURS and record.levelno < logging.WARNING:
            return False
        is_faust = record.name.startswith(STREAM_PROCESSOR)
        text = str(record.msg)
        if is_faust and (not record.name.startswith(OURS) or text.startswith("[^")):
            is_crash = bool(record.exc_info) or record.levelno >= logging.CRITICAL
            return is_crash and not any(line in text for line in AFTER_A_CRASH)
        return True


class RateLimit(logging.Filter):
    """Let `BURST` lines of a kind pass in `EVERY_S`. All lines of one call in the code are of one kind."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, str, int], list[float]] = {}  # kind -> start of its time window, lines in it

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is logged."""
        now, kind = time.monotonic(), (record.name, record.pathname, record.lineno)
        since, count = self._kinds.get(kind, (now, 0))
        left_out = 0
        if now - since >= EVERY_S:
            since, count, left_out = now, 0, max(0, int(count) - BURST)
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = [since, count + 1]
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} more like it)", None
        return count < BURST


chosen: LogChoice | None = None
"""Of this process; None for a command that sets up no log."""


def configure(choice: LogChoice, filters: Sequence[logging.Filter] = ()) -> None:
    """Log every line of this process so: warnings of Python, and errors that end it or a thread, too.

    Parameters
    ----------
    choice : LogChoice
    filters : sequence of logging.Filter
        Asked before the others. At level debug they see each line, too.
    """
    global chosen
    chosen = choice
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormat() if choice.form == "json" else TextFormat())
    level = choice.level.upper()
    for each in (*filters, *(() if level == "DEBUG" else (Internals(), RateLimit()))):
        handler.addFilter(each)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    warnings.formatwarning = _in_one_line
    logging.captureWarnings(True)
    sys.excepthook = _log_bug
    threading.excepthook = lambda bug: _log_bug(bug.exc_type, bug.exc_value or bug.exc_type(), bug.exc_traceback)


def _in_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"{category.__name__}: {message} ({filename}:{lineno})"


def _log_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.critical("a bug; please report it with these lines", exc_info=(kind, error, trace))
