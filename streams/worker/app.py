"""Build the Faust app of a tier from the settings. Knows no message and nothing of what the tier does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import faust
from faust.auth import OAuthCredentials

from streams.faust_compat.app import App
from streams.kafka.client import METADATA_AGE_MS, client_options, no_right
from streams.kafka.outgoing import BROKERS_LARGEST
from streams.kafka.topics import group_id
from streams.settings import KafkaSettings, Settings
from streams.worker.ending import Ending

BATCH_BYTES = 1 << 17
"""Sent to a partition in one request, at most: what waits for the last one to be stored is sent in one, not in nine."""

TierName = Literal["state", "rank"]


def build_app(settings: Settings, tier: TierName, ending: Ending, largest: Mapping[str, int]) -> App:
    """Return an app that is the tier's consumer group, and that ends the worker where Kafka refuses a right.

    Parameters
    ----------
    largest : mapping of str to int
        The `max.message.bytes` of each topic, in bytes.
    """
    kafka, tables = settings.kafka, settings.tables
    app = App(
        group_id(settings, tier),
        fetch_wait_ms=kafka.fetch_wait_ms,
        broker=[f"kafka://{server}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=_credentials(kafka),
        broker_session_timeout=kafka.session_timeout_s,
        broker_heartbeat_interval=kafka.heartbeat_s,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_AGE_MS,
        consumer_group_instance_id=f"{kafka.instance_id}-{tier}" if kafka.instance_id else None,
        producer_acks=-1,
        producer_max_batch_size=min([BATCH_BYTES, *largest.values()]),
        producer_max_request_size=max(largest.values(), default=BROKERS_LARGEST),
        stream_wait_empty=False,  # the tiers finish their work in `on_revoked` and `close`, in bounded time
        store="memory://" if tables.store == "memory" else "rocksdb://?driver=rocksdict",
        datadir=str(tables.data_dir),
        topic_allow_declare=False,
        topic_partitions=kafka.partitions,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=False,
        autodiscover=False,
    )
    app.kafka.on_refusal = lambda error: ending.end(no_right(kafka, error))
    return app


def _credentials(kafka: KafkaSettings) -> Any:
    options = client_options(kafka)
    context = options.get("ssl_context")
    if provider := options.get("sasl_oauth_token_provider"):
        return OAuthCredentials(oauth_cb=provider, ssl_context=context)
    if kafka.security.protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None
