"""The log of a worker and of a server: what it is, with which settings, then what happens to it."""

from __future__ import annotations

import logging
import os
from importlib.metadata import version

from streams import log
from streams.kafka import outage
from streams.settings import Settings, service_links
from streams.settings.table import differing

logger = logging.getLogger(__name__)


def set_up(settings: Settings, what: str) -> None:
    """Log as the settings say. The first line has the version and the settings that are not the defaults.

    Parameters
    ----------
    what : str
        What this process is, such as `worker, role all`.
    """
    keeps_all = settings.log_level == "debug"
    log.configure(log.LogChoice(settings.log_level, settings.log_format), [outage.Quiet(outage.kafka, keep=keeps_all)])
    changed = differing(settings)
    if "redis.url" in changed:
        changed["redis.url"] = str(settings.redis.address)  # without login and options
    listed = ", ".join(f"{name}={value}" for name, value in changed.items())
    logger.info("Afterclick %s, %s, process %d; settings: %s", version("afterclick"), what, os.getpid(),
                listed or "the defaults")  # fmt: skip
    if ignored := service_links():
        logger.debug("ignored variables, which an orchestrator made for its services: %s", ", ".join(sorted(ignored)))
