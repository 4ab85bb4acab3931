"""The folder of a worker with RocksDB tables: created if it is missing, and locked while the worker runs.

RocksDB lets only one process open a database. The vectors and the search graph in the folder may be shared, so workers
that keep their tables in memory lock nothing. Knows nothing of the folder's content.
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
"""Open until the process ends, and locked as long. A forked child does not inherit this kind of lock."""


def claim(folder: Path) -> None:
    """Create and lock the folder for this process. The lock ends with the process, however it ends.

    Raises
    ------
    SettingsError
        Another worker has locked it, or we may not write there.
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
            logger.warning(
                "%s: the file system has no locks (%s); make sure that no other worker uses this folder", folder, error
            )
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
    except OSError as error:  # a full disk: the lock works without the number
        logger.debug("%s: %s", file.name, error)
