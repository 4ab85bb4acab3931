"""From a load and costs to workers, partitions, GPUs, memory, disk and network, and to the limit that comes next.

Pure arithmetic: knows no clock, no Kafka and no model's files.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from ranker.recall.adapted_space import EXACT
from streams.sizing.costs import Costs
from streams.sizing.transformer import TransformerSizes

GB, MB, DAY_S = 1e9, 1e6, 86_400
BUSY = 0.6
"""The share of its time for which a core or a GPU works at the given load: the rest is for peaks and for a restart."""
BASE_BYTES, MODEL_BYTES, CACHE_BYTES = 0.25 * GB, 0.8 * GB, 0.5 * GB
"""A worker without users and items, its models' process, and RocksDB's caches."""
EVENT_BYTES, ITEM_BYTES = 250, 600
REQUEST_BYTES, CANDIDATE_BYTES = 2_000, 305
LIST_ITEM_BYTES, REDIS_KEY_BYTES = 200, 150
"""Of messages about the generated shop's items, rounded up; REDIS_KEY_BYTES is a key with its TTL."""
ON_DISK = 1.5
"""Bytes on disk for a byte that is kept: what compaction, in RocksDB and in Kafka, has not removed yet."""
LEAST_PARTITIONS, PARTITIONS_PER_WORKER = 8, 2
CONTEXT_TOKENS, CANDIDATE_TOKENS = 500, 20
"""Of a history of 50 events with short titles, and of an item with its template."""
NUMBER_BYTES, ADAPTED_BYTES, SPACE_GRAPH_BYTES = 2, 512, 400
"""Of a vector that an item brings: a number of it as it came, the adapted vector, and its place in a search graph (128
bytes, and 32 links at the lowest level, whose size usearch's documents do not give: an estimate)."""
GPU_SHARE = 0.3
"""Useful operations of a packed model beside the card's own figure. An assumption: we have measured no GPU."""
CARDS = {"L4": 121.0, "A10G": 70.0, "L40S": 362.0, "A100": 312.0, "H100": 989.0}
"""Dense bfloat16 TFLOP/s by NVIDIA's data sheets."""
REDIS_BYTES, REDIS_WRITES_PER_S, BROKER_BYTES_PER_S = 25 * GB, 30_000, 100 * MB
"""Of one Redis server and one Kafka broker. Chosen by us; both scale by more of them."""
GROUP_MEMBERS, RESTORE_S, FIRST_START_S = 500, 600, 3_600
"""Where more of the same helps no more: workers that one coordinator of a group handles, and times that an operator
waits for. Chosen by us."""


@dataclass(frozen=True)
class Load:
    """What an installation has to do.

    Attributes
    ----------
    users, items, candidates : int
    events_per_s : float
        Clicks and purchases at the busiest time. Each makes a list.
    model : str
        `default`, `none`, or the name of a model on GPUs.
    sizes : TransformerSizes, optional
        Of the model on GPUs; None for `default` and `none`.
    card : str
        One of `CARDS`.
    worker_gb : float
        Memory of a worker, in 1e9 bytes.
    list_size : int
        Items of a published list.
    replicas : int
        Copies of each topic in Kafka.
    retention_days : float
        How long Kafka keeps events.
    space_dims : tuple of int
        The length of the vectors that items bring, for each space of them.
    """

    users: int
    events_per_s: float
    items: int
    candidates: int
    model: str = "default"
    sizes: TransformerSizes | None = None
    card: str = "L4"
    worker_gb: float = 8.0
    list_size: int = 20
    replicas: int = 3
    retention_days: float = 7.0
    space_dims: tuple[int, ...] = ()

    @property
    def space_bytes(self) -> int:
        """Memory of an item's vectors in these spaces."""
        of_graph = SPACE_GRAPH_BYTES if self.items > EXACT else 0
        return sum(NUMBER_BYTES * dim + ADAPTED_BYTES + of_graph for dim in self.space_dims)

    @property
    def space_message_bytes(self) -> int:
        """The same vectors in a message, in base64."""
        return sum(NUMBER_BYTES * dim * 4 // 3 for dim in self.space_dims)


@dataclass(frozen=True)
class Limit:
    """One resource: `used` of `most`, in `unit`, and what to do where it is reached."""

    name: str
    used: float
    most: float
    unit: str
    advice: str

    @property
    def share(self) -> float:
        """How much of it the load takes: 1 is all."""
        return self.used / self.most


@dataclass(frozen=True)
class Needs:
    """What a load needs. Memory and disk in bytes, network in bytes a second; of a worker where the name says so."""

    partitions: int
    state_workers: int
    rank_workers: int
    gpus: int
    store: str
    state_worker_bytes: float
    state_worker_disk_bytes: float
    rank_worker_bytes: float
    restore_s: float
    lists_per_gpu_s: float | None
    kafka_brokers: int
    kafka_written_per_s: float
    kafka_replicated_per_s: float
    kafka_read_per_s: float
    kafka_disk_bytes: float
    redis_servers: int
    redis_bytes: float
    redis_writes_per_s: float
    limits: tuple[Limit, ...]

    @property
    def next_limit(self) -> Limit:
        """The resource of which the load takes most."""
        return max(self.limits, key=lambda limit: limit.share)


def plan(load: Load, costs: Costs) -> Needs:
    """Return what the load needs.

    A state worker uses one core. A rank worker uses one core for the stream, and one or a GPU for the model.
    """
    lists = load.events_per_s
    state_cores = (load.events_per_s * costs.event_core_ms + lists * costs.request_core_ms) / 1_000
    state_workers = _workers(state_cores)
    fixed = BASE_BYTES + MODEL_BYTES + load.items * (costs.item_bytes + load.space_bytes)
    users_each = load.users / state_workers
    on_disk = fixed + users_each * costs.user_bytes > load.worker_gb * GB
    model_s, lists_per_gpu_s = _model_s(load, costs)
    rank_workers = _workers(lists * max(costs.list_core_ms / 1_000, model_s))
    written, read, disk = _kafka(load, costs, lists)
    redis_bytes = load.users * (load.list_size * LIST_ITEM_BYTES + REDIS_KEY_BYTES)
    most_workers = max(state_workers, rank_workers)
    return Needs(
        partitions=max(LEAST_PARTITIONS, 1 << (PARTITIONS_PER_WORKER * most_workers - 1).bit_length()),
        state_workers=state_workers,
        rank_workers=rank_workers,
        gpus=rank_workers if load.sizes else 0,
        store="rocksdb" if on_disk else "memory",
        state_worker_bytes=fixed + (CACHE_BYTES if on_disk else users_each * costs.user_bytes),
        state_worker_disk_bytes=users_each * costs.record_bytes * ON_DISK if on_disk else 0.0,
        rank_worker_bytes=BASE_BYTES + MODEL_BYTES,
        restore_s=users_each / costs.restore_per_s,
        lists_per_gpu_s=lists_per_gpu_s,
        kafka_brokers=max(load.replicas, ceil(written * load.replicas / BROKER_BYTES_PER_S)),
        kafka_written_per_s=written,
        kafka_replicated_per_s=written * (load.replicas - 1),
        kafka_read_per_s=read,
        kafka_disk_bytes=disk,
        redis_servers=ceil(max(redis_bytes / REDIS_BYTES, lists / REDIS_WRITES_PER_S)),
        redis_bytes=redis_bytes,
        redis_writes_per_s=lists,
        limits=_limits(load, costs, users_each, most_workers),
    )


def _workers(cores: float) -> int:
    return max(1, ceil(cores / BUSY))


def _model_s(load: Load, costs: Costs) -> tuple[float, float | None]:
    """Return the seconds of a model for a list, and the lists a second of a GPU; None without one."""
    if load.sizes:
        flops = load.sizes.flops(CONTEXT_TOKENS, load.candidates * CANDIDATE_TOKENS, load.candidates)
        model_s = flops / (CARDS[load.card] * 1e12 * GPU_SHARE)
        return model_s, 1 / model_s
    return (0.0 if load.model == "none" else costs.score_core_ms(load.candidates) / 1_000), None


def _kafka(load: Load, costs: Costs, lists: float) -> tuple[float, float, float]:
    """Return the bytes a second that are written and read, and those on all disks."""
    request, published = REQUEST_BYTES + load.candidates * CANDIDATE_BYTES, load.list_size * LIST_ITEM_BYTES
    events = load.events_per_s * EVENT_BYTES
    written = events + load.events_per_s * costs.record_bytes + lists * (request + published)
    read = events + lists * (request + published)
    kept = events * load.retention_days * DAY_S + lists * request * 3_600
    compacted = load.users * (costs.record_bytes + published) + load.items * (ITEM_BYTES + load.space_message_bytes)
    return written, read, (kept + compacted * ON_DISK) * load.replicas


def _limits(load: Load, costs: Costs, users_each: float, most_workers: int) -> tuple[Limit, ...]:
    encode_s = load.items * costs.encode_item_core_ms / 1_000
    return (
        Limit(
            "memory of each worker for the whole catalogue",
            load.items * (costs.item_bytes + load.space_bytes) / GB,
            load.worker_gb - (BASE_BYTES + MODEL_BYTES) / GB,
            "GB",
            "give the workers more memory: each state worker holds all items",
        ),
        Limit(
            "first start of a state worker, which encodes the whole catalogue",
            encode_s,
            FIRST_START_S,
            "s",
            "keep the workers' folders, which have the vectors, or encode on a GPU",
        ),
        Limit(
            "restore of a state worker that lost its folder",
            users_each / costs.restore_per_s,
            RESTORE_S,
            "s",
            "run more state workers, so that each has fewer users, and keep their folders",
        ),
        Limit(
            "workers in one consumer group",
            most_workers,
            GROUP_MEMBERS,
            "workers",
            "divide the users among several installations, each with a topic prefix of its own",
        ),
    )
