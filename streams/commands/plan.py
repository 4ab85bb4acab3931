"""`afterclick plan`: what an installation needs for its load, as text, JSON, or rows of deploy/README.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from encoders.models import source as model_source
from streams.settings import Settings, SettingsError
from streams.sizing.costs import Costs
from streams.sizing.plan import (
    BROKER_BYTES_PER_S,
    BUSY,
    CANDIDATE_TOKENS,
    CARDS,
    CONTEXT_TOKENS,
    FIRST_START_S,
    GB,
    GPU_SHARE,
    GROUP_MEMBERS,
    MB,
    ON_DISK,
    REDIS_BYTES,
    REDIS_WRITES_PER_S,
    RESTORE_S,
    Load,
    Needs,
    plan,
)
from streams.sizing.transformer import TransformerSizes
from streams.terminal.report import SENTENCE, Field, Report, show

ON_CPU = ("default", "none")
PUBLISHED = {
    "Qwen/Qwen3-Reranker-0.6B": TransformerSizes(1024, 3072, 28, 16, 8, 128, causal=True),
    "Qwen/Qwen3-Reranker-4B": TransformerSizes(2560, 9728, 36, 32, 8, 128, causal=True),
    "BAAI/bge-reranker-base": TransformerSizes(768, 3072, 12, 12, 12, 64, causal=False),
}
"""Sizes by the models' `config.json`, so that a plan needs no download."""
EXAMPLES = (
    ("1 thousand", Load(1_000, 1, 1_000, 100)),
    ("1 million", Load(1_000_000, 500, 100_000, 100)),
    ("100 million", Load(100_000_000, 20_000, 1_000_000, 100)),
)
MINUTE_S, BFLOAT16_BYTES = 60, 2
USUAL_DIM = 512
"""Of a space whose setting does not say how long its vectors are: that of CLIP."""


def load_of(
    settings: Settings,
    users: int,
    events_per_s: float,
    items: int,
    candidates: int,
    model: str,
    card: str,
    worker_gb: float,
) -> Load:
    """Return the load, with the length of a list, the spaces of items and the copies in Kafka from the settings.

    Raises
    ------
    SettingsError
        There is no such model or card, or its figures are not known.
    """
    if card not in CARDS:
        raise SettingsError(f"--card: got {card!r}, expected one of {', '.join(CARDS)}")
    replicas = settings.kafka.replication_factor
    return Load(
        users,
        events_per_s,
        items,
        candidates,
        model,
        sizes_of(model),
        card,
        worker_gb,
        settings.ranker.list_size,
        replicas if replicas > 1 else Load.replicas,
        space_dims=tuple(dim or USUAL_DIM for dim in settings.candidates.dims.values()),
    )


def sizes_of(model: str) -> TransformerSizes | None:
    """Return the sizes of a model that runs on GPUs; None for `default` and `none`, which need none.

    Raises
    ------
    SettingsError
        The model is not published with known sizes and is no folder.
    """
    if model in ON_CPU:
        return None
    if model in PUBLISHED:
        return PUBLISHED[model]
    try:
        found = model_source.resolve(model)
        if found != model or Path(model).is_dir():
            return TransformerSizes.read(Path(found))
    except KeyError as error:
        raise SettingsError(
            f"--model: got {model!r}, whose config.json has no {error}, expected that of a transformer"
        ) from error
    raise SettingsError(
        f"--model: got {model!r}, expected {', '.join([*ON_CPU, *PUBLISHED])}, or a folder or an installed package "
        "with a config.json; download the model and name its folder"
    )


def rows(load: Load, needs: Needs) -> Iterator[tuple[str, str]]:
    """Yield what is needed and how much of it."""
    yield "partitions", f"{needs.partitions}"
    yield "state workers", f"{needs.state_workers}, each with 1 core and {_gb(needs.state_worker_bytes)}"
    if needs.store == "rocksdb":
        yield "users' states", f"RocksDB, {_gb(needs.state_worker_disk_bytes)} of disk each"
    else:
        yield "users' states", "in the memory of the workers"
    cores = "1 core and 1 GPU" if needs.gpus else "1 core" if load.model == "none" else "2 cores"
    yield "rank workers", f"{needs.rank_workers}, each with {cores} and {_gb(needs.rank_worker_bytes)}"
    if needs.lists_per_gpu_s is not None:
        weights = load.sizes.weights * BFLOAT16_BYTES if load.sizes else 0
        yield (
            "GPUs",
            f"{needs.gpus} {load.card}, {needs.lists_per_gpu_s:,.0f} lists/s each at most, {_gb(weights)} of layers",
        )
    yield "restore of a state worker", _time(needs.restore_s)
    yield "Kafka brokers", f"{needs.kafka_brokers}"
    yield "Kafka, written", f"{_mb(needs.kafka_written_per_s)}, and {_mb(needs.kafka_replicated_per_s)} between brokers"
    yield "Kafka, read", _mb(needs.kafka_read_per_s)
    yield "Kafka, all disks", _gb(needs.kafka_disk_bytes)
    servers = "1 server" if needs.redis_servers == 1 else f"{needs.redis_servers} servers"
    yield "Redis", f"{servers}: {_gb(needs.redis_bytes)}, {needs.redis_writes_per_s:,.0f} lists/s"
    limit = needs.next_limit
    yield "next limit", f"{limit.name}: {_of(limit.used, limit.most)} {limit.unit}; {limit.advice}"


def assumptions(load: Load, costs: Costs, not_measured: Sequence[str]) -> Iterator[str]:
    """Yield what the plan takes for granted."""
    yield f"costs of {costs.machine}" + (f"; by default: {', '.join(not_measured)}" if not_measured else "")
    yield f"events/s are those of the busiest time, and cores and GPUs then work {BUSY:.0%} of it"
    yield "every click or purchase makes a list; in bursts there are fewer, because only a user's newest request counts"
    yield f"every user has the largest possible state, {costs.record_bytes:,.0f} bytes, and a list in Redis"
    yield "one worker more in each tier lets one fail without growing lag"
    yield (
        f"Kafka keeps {load.replicas} copies, events for {load.retention_days:g} days, without compression; "
        f"compacted data takes {ON_DISK:g} times its size"
    )
    if load.space_dims:
        yield (
            f"each item brings vectors of {' and '.join(map(str, load.space_dims))} numbers "
            f"(AFTERCLICK_CANDIDATES__SPACES), {load.space_bytes:,} bytes in each state worker"
        )
    if load.sizes:
        yield (
            f"no GPU was measured: {CONTEXT_TOKENS} tokens of history and {CANDIDATE_TOKENS} of each candidate, "
            f"packed, at {GPU_SHARE:.0%} of the {CARDS[load.card]:g} TFLOP/s (bfloat16) of {load.card}"
        )
    yield (
        f"one Kafka broker takes {_mb(BROKER_BYTES_PER_S)}; one Redis server holds {_gb(REDIS_BYTES)} and takes "
        f"{REDIS_WRITES_PER_S:,} lists/s"
    )
    yield (
        f"a group has up to {GROUP_MEMBERS} workers; a restore may take {_time(RESTORE_S)}, and a first start "
        f"{_time(FIRST_START_S)}"
    )


def write(load: Load, costs: Costs, not_measured: Sequence[str], console: Console, as_json: bool) -> None:
    """Print the plan with its assumptions."""
    needs = plan(load, costs)
    assumed = list(assumptions(load, costs, not_measured))
    if as_json:
        console.out(json.dumps(_json(load, costs, needs, assumed), indent=2, ensure_ascii=False), highlight=False)
        return
    report = Report((Field("what"), Field("needed", wrap=SENTENCE)), _title(load))
    for name, value in rows(load, needs):
        report.add(name, value)
    report.caption = "\n".join(f"- {line}" for line in assumed)
    show(report, console=console)


def examples(costs: Costs) -> str:
    """Return the table of deploy/README.md: a thousand, a million and a hundred million users."""
    columns = [dict(rows(load, plan(load, costs))) for _, load in EXAMPLES]
    heads = [f"{name} users, {load.events_per_s:,} events/s, {load.items:,} items" for name, load in EXAMPLES]
    lines = [(name, *(column[name] for column in columns)) for name in columns[0]]
    head = f"| | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}\n"
    return head + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _json(load: Load, costs: Costs, needs: Needs, assumed: Sequence[str]) -> dict[str, Any]:
    limits = [{**asdict(limit), "share": limit.share} for limit in needs.limits]
    return {
        "load": asdict(load),
        "costs": asdict(costs),
        "needs": {**asdict(needs), "limits": limits, "next_limit": needs.next_limit.name},
        "assumptions": list(assumed),
    }


def _title(load: Load) -> str:
    return (
        f"{load.users:,} users, {load.events_per_s:,g} events/s, {load.items:,} items, {load.candidates} candidates, "
        f"model {load.model}"
    )


def _gb(size: float) -> str:
    return f"{size / MB:,.0f} MB" if size < GB else f"{size / GB:,.0f} GB" if size >= 10 * GB else f"{size / GB:.1f} GB"


def _mb(per_s: float) -> str:
    return f"{per_s / MB:,.2f} MB/s" if per_s < MB else f"{per_s / MB:,.0f} MB/s"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 2 * MINUTE_S else f"{seconds / MINUTE_S:,.0f} min"


def _of(used: float, most: float) -> str:
    return f"{used:,.3g} of {most:,g}" if used < 1_000 else f"{used:,.0f} of {most:,g}"
