"""A worker process: one Faust app for each tier that its role has, and what surrounds the apps.

Each tier is a consumer group. So a process with the role `all`, or many with the roles `state` and `rank`, divide the
same partitions. Before Faust starts, every topic is there and every model is loaded: a worker that cannot work stops
with one line.
"""

from __future__ import annotations

from typing import Literal

import faust
from threadpoolctl import threadpool_limits

from streams.rank.serving import Serving
from streams.settings import Settings
from streams.worker import data_folder, probes, startup
from streams.worker.app import TierName
from streams.worker.ending import Ending, limit_shutdown
from streams.worker.health import Health
from streams.worker.rank_app import rank_app
from streams.worker.state_app import state_app

Role = Literal["state", "rank", "all"]


def run(settings: Settings, role: Role, serving: Serving) -> int:
    """Work until SIGTERM or SIGINT; return the process's exit status.

    Parameters
    ----------
    serving : Serving
        The models that the role needs; they may still be loading.

    Raises
    ------
    SettingsError, TopicError, KafkaRefuses, ModelNotFound, ModelUnsupported
        Before anything was taken from Kafka. A Redis that refuses this worker is a wrong setting.
    StateUnreadable
        A newer worker wrote the states that were restored; none of them was changed.
    """
    if role in ("state", "all") and settings.tables.store == "rocksdb":
        data_folder.claim(settings.tables.data_dir)
    tiers: list[TierName] = ["state", "rank"] if role == "all" else [role]
    health = Health(settings.health, tiers)
    if settings.metrics.port:
        probes.serve(settings.metrics, health)
    largest = startup.prepare(settings, tiers, health)
    if largest is None:
        return 0
    threadpool_limits(1, "blas")  # numpy's products are small here: a second thread would wait more than it computes
    serving.load()
    health.models_loaded = serving.loaded
    if not startup.wait_for_kafka(settings, health):
        return 0
    ending = Ending()
    apps = []
    if serving.encoder:
        apps.append(state_app(settings, serving.encoder, health, ending, largest))
    if role in ("rank", "all"):
        apps.append(rank_app(settings, serving, health, ending, largest))
    worker = faust.Worker(*apps, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None
    limit_shutdown(worker, settings.grace_s)
    try:
        worker.execute_from_commandline()
    except SystemExit as stopped:
        if ending.reason:
            raise ending.reason from None
        return int(stopped.code or 0)
