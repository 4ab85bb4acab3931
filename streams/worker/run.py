"""A worker process: one Faust app for each tier that its role has, and what surrounds the apps.

Each tier is a consumer group. So a process with the role `all`, or many with the roles `state` and `rank`, divide the
same partitions. Before Faust starts, every topic is there and every model is loaded: a worker that cannot work stops
with one line.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal

import uvloop
from prometheus_client import REGISTRY
from threadpoolctl import threadpool_limits

from streams import metrics
from streams.faust_compat.app import StartsAppsTogether
from streams.kafka.schema_registry import registry_of
from streams.models.process_cost import ProcessCost
from streams.rank.serving import Serving
from streams.rules.live_rules import LiveRules
from streams.settings import Settings
from streams.worker import data_folder, probes, startup
from streams.worker.app import TierName
from streams.worker.ending import Ending, limit_shutdown
from streams.worker.health import Health
from streams.worker.http_process import HttpProcess
from streams.worker.rank_app import rank_app
from streams.worker.start_steps import steps
from streams.worker.state_app import state_app

logger = logging.getLogger(__name__)

Role = Literal["state", "rank", "all"]
SWITCH_S = 0.001
"""After so long a thread lets others work that wait, as those that fetch from Kafka do. With Python's 5 ms half of the
lists take a fifth longer at 20 clicks/s, and 1% of them twice as long; each list takes a tenth more processor time."""


def run(settings: Settings, role: Role, serving: Serving, serve_command: Sequence[str] | None = None) -> int:
    """Work until SIGTERM or SIGINT; return the process's exit status.

    Parameters
    ----------
    serving : Serving
        The models that the role needs; they may still be loading.
    serve_command : sequence of str, optional
        The command of a process that serves HTTP beside the worker.

    Raises
    ------
    SettingsError, RulesError, TopicError, KafkaRefuses, ModelNotFound, ModelUnsupported
        Before anything was taken from Kafka. A Redis that refuses this worker is a wrong setting.
    StateUnreadable
        A newer worker wrote the states that were restored; none of them was changed.
    """
    if role in ("state", "all") and settings.tables.store == "rocksdb":
        data_folder.claim(settings.tables.data_dir)
    tiers: list[TierName] = ["state", "rank"] if role == "all" else [role]
    rules = LiveRules(settings)
    health = Health(settings.health, tiers)
    health.waits_for = lambda: registry_of(settings.kafka).why_away
    metrics.show_build([""])
    REGISTRY.register(ProcessCost(serving.pids))
    if settings.metrics.port:
        probes.serve(settings.metrics, health)
    steps.end("imports")
    largest = startup.prepare(settings, tiers, health)
    if largest is None:
        return _ended_early()
    steps.end("checks")
    threadpool_limits(1, "blas")  # numpy's products are small here: a second thread would wait more than it computes
    sys.setswitchinterval(SWITCH_S)
    serving.load()
    health.models_loaded = serving.loaded
    for step, at_s in serving.steps().items():
        steps.end(step, at_s)
    if not startup.wait_for_kafka(settings, health):
        return _ended_early()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    ending = Ending()
    apps = []
    if serving.encoder:
        apps.append(state_app(settings, serving, serving.encoder, rules, health, ending, largest))
    if role in ("rank", "all"):
        apps.append(rank_app(settings, serving, rules, health, ending, largest))
    steps.end("warm-up")
    worker = StartsAppsTogether(*apps, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None
    limit_shutdown(worker, settings.grace_s)
    return _work(worker, ending, serve_command)


def _work(worker: StartsAppsTogether, ending: Ending, serve_command: Sequence[str] | None) -> int:
    try:
        with HttpProcess(serve_command) if serve_command else nullcontext():
            worker.execute_from_commandline()
    except SystemExit as stopped:
        if ending.reason:
            raise ending.reason from None
        if stopped.code:
            logger.error("the worker ends after an error that is a bug; please report the lines above")
        else:
            logger.info("the worker has stopped")
        return int(stopped.code or 0)


def _ended_early() -> int:
    logger.info("the worker has stopped before it was ready")
    return 0
