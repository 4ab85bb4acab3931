"""The root of every error that a user can fix.

    AfterclickError
    ├── SettingsError        (streams.settings.errors)         a setting is wrong
    ├── TopicError           (streams.kafka.topics)            topics are missing or not as needed
    ├── KafkaUnavailable     (streams.kafka.client)            Kafka does not answer: try again later
    ├── KafkaRefuses         (streams.kafka.client)            Kafka refuses a login, a certificate or a right
    ├── RegistryUnavailable  (streams.kafka.registry_client)   the schema registry is away, or refuses a login
    ├── CacheUnavailable     (streams.publish.redis_refusal)   Redis does not answer, or refuses the connection
    ├── ListUnreadable       (streams.publish.list_cache)      a list from a newer worker
    ├── WorkerFailed         (streams.testing.worker_process)  a worker process in a test ended, or does not work
    ├── ClientError          (streams.client.errors)           a call of the client cannot be done
    ├── EmbeddedUnavailable  (streams.testing.embedded)        a part of the demo is not installed
    ├── ReplicaNotReady      (streams.serve.replica)           the copy of the states is not complete: try again later
    ├── ScorerOverloaded     (streams.serve.score_batches)     too many requests wait for the model: try again later
    ├── BadRerank            (streams.serve.rerank)            a question to rerank that nobody can answer
    ├── InputError           (streams.datasets.messages)       a file to replay is not as expected
    ├── Interrupted          (streams.commands.interruption)   Ctrl-C ended a command; status 130
    ├── PictureUnavailable   (streams.commands.embed_images.picture_files)  a picture that cannot be fetched
    ├── TooScattered         (streams.commands.dead_letters)   Kafka cannot remember which letters a filter left out
    ├── NoPreference         (streams.commands.preferences)    a wish that cannot be sent or taken back
    ├── NoUser               (streams.commands.forget)         no user can have this id
    ├── BenchFailed          (streams.bench.servers)           a benchmark cannot run, or lost messages
    ├── PackageMissing       (ranker.evaluation.extra)         a package of an extra is not installed
    ├── ProcessesFailed      (ranker.processes)                another process of a run has ended, or shares no folder
    ├── NotScored            (ranker.score)                    a model on a server does not answer
    ├── ModelRefused         (ranker.train.fit)                a trained model ranks worse than the references
    ├── RulesError           (ranker.rules.reading)            rules that cannot be used
    ├── LanguageError        (ranker.reasons.language)         phrases of a language that cannot be used
    ├── GraphFileError       (ranker.recall.graph_file)        a search graph on disk that cannot be used
    ├── StateUnreadable      (encoders.interest_record)        a user's state from a newer worker, or a damaged one
    ├── SentimentMissing     (encoders.text.sentiment)         the package that judges reviews is not installed
    ├── ModelNotFound        (encoders.models.source)          no model of that name
    ├── ModelUnsupported     (encoders.models.source)          a model that cannot be run correctly
    ├── PictureUnreadable    (encoders.images.pictures)        bytes that are no picture
    └── DeviceUnavailable    (encoders.models.device)          a device that does not exist here

The message says what, got, expected, and what to do. The command line prints it as one line and exits with status 2.
"""

from __future__ import annotations


class AfterclickError(Exception):
    """A problem that the reader of the message can fix."""
