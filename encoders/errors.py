"""The root of every error that a person can mend.

    AfterclickError
    ├── SettingsError        (streams.settings)       a setting is wrong
    ├── TopicError           (streams.kafka.topics)         topics are missing or not as needed
    ├── KafkaUnavailable     (streams.kafka.client)   Kafka does not answer, or refuses us
    ├── CacheUnavailable     (streams.publish.redis_refusal)  Redis does not answer, or refuses us
    ├── ListUnreadable       (streams.publish.list_cache)        a list from a newer worker
    ├── WorkerFailed         (streams.testing.worker_process)  a worker that we started ended, or does not do its work
    ├── EmbeddedUnavailable  (streams.testing.embedded)       a part of the demo is not installed
    ├── InputError           (streams.datasets.messages) a file to replay is not as expected
    ├── StateUnreadable      (encoders.interest)      a user's state from a newer worker, or a damaged one
    ├── ModelNotFound        (encoders.models.source)  no model of that name
    ├── ModelUnsupported     (encoders.models.source)  a model that we cannot serve correctly
    └── DeviceUnavailable    (encoders.models.device)        a device that is not here

The message says what, got, expected, and what to do; the command line prints it as one line and ends with status 2.
"""

from __future__ import annotations


class AfterclickError(Exception):
    """What the message says can be mended by the person who reads it."""
