"""The names of Faust and aiokafka that `streams/faust_compat` touches and that are private or undocumented.

A new release of theirs that changes one fails here, within a second, and not in production. The last tests keep this
list complete, and keep such names out of all other modules.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, client, cluster, conn
from aiokafka.consumer import fetcher, group_coordinator, subscription_state
from aiokafka.producer import sender
from aiokafka.protocol import fetch, group, metadata, produce
from aiokafka.record import default_records, memory_records
from faust.app.base import App
from faust.stores import memory, rocksdb
from faust.streams import Stream
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.topics import Topic
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage
from mode.services import Service, WaitResults

STREAMS = Path(__file__).parents[2] / "streams"
DOOR = STREAMS / "faust_compat"


def original(kind: type) -> type:
    """Return aiokafka's class, not ours that is derived from it and installed in its place."""
    return next(base for base in kind.__mro__ if base.__module__.startswith("aiokafka"))


METHODS: list[tuple[type, str, str]] = [
    # Faust's consumer: overridden or called
    (driver.Consumer, "_getmany", "self, active_partitions, timeout"),
    (driver.Consumer, "_wait_next_records", "self, timeout"),
    (driver.Consumer, "_get_active_partitions", "self"),
    (driver.Consumer, "_new_offset", "self, tp"),
    (driver.Consumer, "_add_gap", "self, tp, offset_from, offset_to"),
    (driver.Consumer, "_commit_offsets", "self, offsets, start_new_transaction"),
    (driver.Consumer, "_is_changelog_tp", "self, tp"),
    (driver.Consumer, "_new_topicpartition", "self, topic, partition"),
    (driver.Consumer, "_new_consumer_thread", "self"),
    (driver.Consumer, "seek_wait", "self, partitions"),
    (driver.Consumer, "seek_to_committed", "self"),
    (driver.Consumer, "resume_partitions", "self, tps"),
    (driver.Consumer, "pause_partitions", "self, tps"),
    (driver.Consumer, "resume_flow", "self"),
    (driver.Consumer, "stop_flow", "self"),
    (driver.Consumer, "assignment", "self"),
    # its thread
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer", "self, transport"),
    (driver.AIOKafkaConsumerThread, "_ensure_consumer", "self"),
    (driver.AIOKafkaConsumerThread, "_commit", "self, offsets"),
    (driver.AIOKafkaConsumerThread, "verify_event_path", "self, now, tp"),
    (driver.AIOKafkaConsumerThread, "seek_to_beginning", "self, *partitions"),
    (driver.AIOKafkaConsumerThread, "on_start", "self"),
    (driver.AIOKafkaConsumerThread, "call_thread", "self, fun, *args, **kwargs"),
    (driver.AIOKafkaConsumerThread, "assignment", "self"),
    # its producer, app, tables, stores and services
    (driver.Producer, "_ensure_producer", "self"),
    (driver.Producer, "on_start", "self"),
    (App, "on_first_start", "self"),
    (App, "on_stop", "self"),
    (Recovery, "active_remaining_total", "self"),
    (TableManager, "on_start", "self"),
    (TableManager, "_update_channels", "self"),
    (memory.Store, "apply_changelog_batch", "self, batch, to_key, to_value"),
    (rocksdb.Store, "apply_changelog_batch", "self, batch, to_key, to_value"),
    (Service, "wait_first", "self, *coros, timeout"),
    # aiokafka's consumer
    (group_coordinator.GroupCoordinator, "_send_req", "self, request"),
    (group_coordinator.GroupCoordinator, "reset_generation", "self"),
    (group_coordinator.GroupCoordinator, "check_errors", "self"),
    (subscription_state.Assignment, "state_value", "self, tp"),
    (subscription_state.TopicPartitionState, "consumed_to", "self, position"),
    (cluster.ClusterMetadata, "partitions_for_topic", "self, topic"),
    (cluster.ClusterMetadata, "leader_for_partition", "self, partition"),
    (original(fetcher.PartitionRecords), "_unpack_records", "self"),
    (original(fetcher.Fetcher), "_proc_fetch_request", "self, assignment, node_id, request"),
    (original(fetcher.Fetcher), "_set_error", "self, tp, error"),
    (fetcher.FetchResult, "__init__", "self, tp, assignment, partition_records, backoff"),
    # aiokafka's producer, client and login
    (sender.Sender, "close", "self"),
    (client.AIOKafkaClient, "send", "self, node_id, request, group"),
    (client.AIOKafkaClient, "bootstrap", "self"),
    (client.AIOKafkaClient, "ready", "self, node_id, group"),
    (client.AIOKafkaClient, "coordinator_lookup", "self, coordinator_type, coordinator_key"),
    (client.AIOKafkaClient, "get_random_node", "self"),
    (original(conn.OAuthAuthenticator), "step", "self, payload"),
    # aiokafka's requests
    (fetch.FetchRequest, "__init__", "self, max_wait_time, min_bytes, max_bytes, isolation_level, topics, rack_id"),
    (produce.ProduceRequest, "__init__", "self, transactional_id, required_acks, timeout, topics"),
    (group.HeartbeatRequest, "__init__", "self, group, generation_id, member_id"),
    (metadata.MetadataRequest, "__init__", "self, topics, allow_auto_topic_creation"),
]

ATTRIBUTES: list[tuple[type, str]] = [
    (driver.Consumer, "_acked _acked_index _committed_offset _gap _read_offset _thread app flow_active transport"),
    (driver.AIOKafkaConsumerThread, "consumer thread_loop transport"),
    (App, "consumer_generation_id flow_control in_recovery producer_transport tables transport"),
    (TableManager, "changelog_topics recovery"),
    (Recovery, "active_offsets active_tps in_recovery"),
    (Stream, "app channel"),
    (Topic, "queue"),
    (ConsumerMessage, "generation_id timestamp_type"),
    (AIOKafkaConsumer, "_client _coordinator _fetch_max_wait_ms _fetcher _isolation_level _subscription"),
    (AIOKafkaProducer, "_sender client"),
    (client.AIOKafkaClient, "cluster"),
    (subscription_state.SubscriptionState, "subscription"),
    (subscription_state.Subscription, "assignment"),
    (subscription_state.Assignment, "active"),
    (subscription_state.TopicPartitionState, "has_valid_position highwater lso position"),
    (original(fetcher.Fetcher), "_client _fetch_max_wait_ms _prefetch_backoff _records _subscriptions"),
    (original(fetcher.PartitionRecords), "_check_crcs _records _tp next_fetch_offset"),
    (original(conn.OAuthAuthenticator), "_token_sent"),
]

INSTALLED: list[tuple[str, str, str]] = [
    # the module where a name is replaced, the name, and how that module uses it
    ("aiokafka.consumer.consumer", "Fetcher", "self._fetcher = Fetcher("),
    ("aiokafka.consumer.fetcher", "PartitionRecords", "partition_records = PartitionRecords("),
    ("aiokafka.conn", "OAuthAuthenticator", "return OAuthAuthenticator("),
    ("aiokafka.record.default_records", "gzip_decode", "gzip_decode("),
    ("aiokafka.record.default_records", "lz4_decode", "lz4_decode("),
    ("aiokafka.record.default_records", "zstd_decode", "zstd_decode("),
    ("aiokafka.record.legacy_records", "gzip_decode", "gzip_decode("),
    ("aiokafka.record.legacy_records", "lz4_decode", "lz4_decode("),
]


def parameters(function: Any) -> str:
    kinds: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return ", ".join(kinds.get(p.kind, "") + p.name for p in inspect.signature(function).parameters.values())


@pytest.mark.parametrize(("owner", "name", "expected"), METHODS, ids=lambda value: getattr(value, "__name__", None))
def test_a_method_takes_what_we_pass_it(owner: type, name: str, expected: str) -> None:
    assert parameters(inspect.unwrap(getattr(owner, name))) == expected


@lru_cache
def assigned_in(module: str) -> frozenset[str]:
    """Return the attributes of `self` that the classes of a module assign."""
    path = getattr(importlib.import_module(module), "__file__", None) or ""
    text = Path(path).read_text(encoding="utf-8") if path.endswith(".py") else ""
    return frozenset(re.findall(r"self\.(\w+)(?:: [^=\n]+)? = ", text))


@pytest.mark.parametrize(("owner", "names"), ATTRIBUTES, ids=lambda value: getattr(value, "__name__", ""))
def test_an_object_has_the_attributes_that_we_read(owner: type, names: str) -> None:
    assigned = set[str]().union(*(assigned_in(kind.__module__) for kind in owner.__mro__))
    missing = [name for name in names.split() if not hasattr(owner, name) and name not in assigned]
    assert not missing


@pytest.mark.parametrize(("module", "name", "use"), INSTALLED)
def test_a_module_uses_the_name_that_we_replace(module: str, name: str, use: str) -> None:
    imported = importlib.import_module(module)
    assert hasattr(imported, name)
    assert use in inspect.getsource(imported)


def test_the_compiled_decoders_look_their_functions_up_by_name() -> None:
    """Cython looks a global up in the module's namespace, where `bounded_codecs` puts ours."""
    compiled = pytest.importorskip("aiokafka.record._crecords.default_records")
    assert {"gzip_decode", "lz4_decode", "zstd_decode"} <= vars(compiled).keys()


def test_a_consumer_starts_with_the_options_that_we_set_on_it() -> None:
    source = inspect.getsource(AIOKafkaConsumer.start)
    for option in ("fetch_max_wait_ms=self._fetch_max_wait_ms", "isolation_level=self._isolation_level"):
        assert option in source
    assert "self._coordinator = GroupCoordinator(" in source
    assert "self._send_req(" in inspect.getsource(group_coordinator.GroupCoordinator._do_heartbeat)


def test_a_batch_tells_its_offsets_and_its_checksum() -> None:
    built = default_records.DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 10)
    built.append(0, 1_000, None, b"value", [])
    records = memory_records.MemoryRecords(bytes(built.build()))
    assert records.has_next()
    batch = records.next_batch()
    assert (batch.base_offset, batch.next_offset, batch.validate_crc()) == (0, 1, True)


def test_wait_first_tells_what_finished() -> None:
    assert WaitResults._fields == ("done", "results", "stopped")


# The list is complete, and nobody else touches such names


def trees(files: Iterable[Path]) -> Iterator[tuple[Path, ast.Module]]:
    for path in files:
        text = path.read_text(encoding="utf-8")
        if any(re.search(rf"^\s*(import|from) {name}\b", text, re.M) for name in THEIRS) or DOOR in path.parents:
            yield path, ast.parse(text)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own_names(tree: ast.AST) -> set[str]:
    """Return the private names that a module defines: functions, classes, globals, and attributes of `self`."""
    names = {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        flat = [one for target in targets for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
        names |= {t.id for t in flat if isinstance(t, ast.Name)}
        names |= {t.attr for t in flat if isinstance(t, ast.Attribute) and _is_self(t.value)}
    return names


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def test_every_private_name_that_the_door_touches_is_in_the_list() -> None:
    listed = {name for _, name, _ in METHODS} | {name for _, names in ATTRIBUTES for name in names.split()}
    modules = dict(trees(DOOR.glob("*.py")))
    own = set[str]().union(*map(own_names, modules.values()))
    touched = {
        node.attr
        for tree in modules.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own
    }
    owners = [owner for owner, *_ in METHODS] + [owner for owner, _ in ATTRIBUTES]
    overridden = {name for name in own if is_private(name) and any(hasattr(owner, name) for owner in owners)}
    assert touched | overridden == {name for name in listed if is_private(name)} - own | overridden


UNDOCUMENTED = {
    *("active_offsets", "active_tps", "apply_changelog_batch", "changelog_topics", "consumer_generation_id"),
    *("flow_control", "generation_id", "recovery", "reset_generation", "state_value", "verify_event_path"),
}
THEIRS = ("faust", "mode", "aiokafka")
NAMED_TUPLES = {"_replace", "_asdict", "_make", "_fields"}


def _touches(tree: ast.Module) -> Iterator[str]:
    """Yield the uses of internals of Faust and aiokafka in a module, as far as its text alone tells."""
    theirs = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None)
            for alias in node.names:
                path = f"{module}.{alias.name}" if module else alias.name
                if path.split(".")[0] in THEIRS:
                    theirs.add((alias.asname or alias.name).split(".")[0])
                    if any(is_private(part) for part in path.split(".")):
                        yield f"imports {path}"
    if not theirs:
        return
    own = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            foreign = not _is_self(node.value) and node.attr not in own | NAMED_TUPLES
            if node.attr in UNDOCUMENTED or (is_private(node.attr) and foreign and ast.unparse(node) != "os._exit"):
                yield f"touches {ast.unparse(node)}"
            if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id in theirs:
                yield f"replaces {ast.unparse(node)}"
        elif isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).split(".")[0] for base in node.bases}
            private = [f.name for f in node.body if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef))]
            if bases & theirs and "super()._" in ast.unparse(node) + "".join(private):
                yield f"overrides a private method in {node.name}"


def test_nobody_else_touches_internals_of_faust_and_aiokafka() -> None:
    files = [path for path in STREAMS.rglob("*.py") if DOOR not in path.parents]
    assert len(files) > 50
    touches = [f"{path.relative_to(STREAMS)}: {touch}" for path, tree in trees(files) for touch in _touches(tree)]
    assert touches == []


@pytest.mark.parametrize(
    "code",
    [
        "from aiokafka.record import _crecords",
        "import aiokafka\nc = aiokafka.AIOKafkaConsumer()\nc._fetcher",
        "import faust\napp = faust.App('x')\napp.tables.recovery",
        "from aiokafka import conn\nconn.OAuthAuthenticator = None",
        "from aiokafka.client import AIOKafkaClient\nclass C(AIOKafkaClient):\n    def _f(self): super()._f()",
    ],
)
def test_such_a_touch_is_found(code: str) -> None:
    assert list(_touches(ast.parse(code)))
