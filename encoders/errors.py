"""The root of every error that a user can fix.

    AfterclickError
    ├── SettingsError        (streams.settings.errors)         a setting is wrong
    ├── TopicError           (streams.kafka.topics)            topics are missing or not as needed
    ├── KafkaUnavailable     (streams.kafka.client)            Kafka does not answer: try again later
    ├── KafkaRefuses         (streams.kafka.client)            Kafka refuses a login, a certificate or a right
    ├── CacheUnavailable     (streams.publish.redis_refusal)   Redis does not answer, or refuses the connection
    ├── ListUnreadable       (streams.publish.list_cache)      a list from a newer worker
    ├── WorkerFailed         (streams.testing.worker_process)  a worker process in a test ended, or does not work
    ├── EmbeddedUnavailable  (streams.testing.embedded)        a part of the demo is not installed
    ├── InputError           (streams.datasets.messages)       a file to replay is not as expected
    ├── NoUser               (streams.commands.forget)         no user can have this id
    ├── BenchFailed          (streams.bench.servers)           a benchmark cannot run, or lost messages
    ├── PackageMissing       (ranker.evaluation.extra)         a package of an extra is not installed
    ├── ModelRefused         (ranker.train.fit)                a trained model ranks worse than the references
    ├── GraphFileError       (ranker.recall.graph_file)        a search graph on disk that cannot be used
    ├── StateUnreadable      (encoders.interest_record)        a user's state from a newer worker, or a damaged one
    ├── ModelNotFound        (encoders.models.source)          no model of that name
    ├── ModelUnsupported     (encoders.models.source)          a model that cannot be run correctly
    └── DeviceUnavailable    (encoders.models.device)          a device that does not exist here

The message says what, got, expected, and what to do. The command line prints it as one line and exits with status 2.
"""

from __future__ import annotations


class AfterclickError(Exception):
    """A problem that the reader of the message can fix."""
