"""The folder of a worker with RocksDB tables: made where there is none, and no other worker's while this one runs.

RocksDB lets one process open a database. The vectors and the search graph beside it may be shared, so workers that keep
their tables in memory claim nothing. Knows nothing of what lies there.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path
from typing import IO

from streams.settings import PREFIX, SettingsError

logger = logging.getLogger(__name__)

FILE = "worker.lock"
_SETTING = f"{PREFIX}TABLES__DATA_DIR"
_held: list[IO[str]] = []
"""Open until the process ends, and the lock with them. A forked child does not inherit this kind of lock."""


def claim(folder: Path) -> None:
    """Make the folder this process's own. A worker that dies, however it dies, lets go of it.

    Raises
    ------
    SettingsError
        Another worker has it, or we may not write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"{_SETTING}: got {folder} ({error.strerror}), expected a folder that we may write; correct the path or "
            "its permissions"
        ) from error
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            logger.warning("%s: no locks there (%s); see to it yourself that no two workers use it", folder, error)
            _held.append(file)
            return
        file.seek(0)
        owner = file.read().strip() or "another one"
        file.close()
        raise SettingsError(
            f"{_SETTING}: got {folder}, which a running worker uses (process {owner}), expected a folder of its own "
            "for each worker with RocksDB; set another one, or end that worker"
        ) from error
    _held.append(file)
    try:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    except OSError as error:  # a full disk: the lock holds without the number
        logger.debug("%s: %s", file.name, error)
